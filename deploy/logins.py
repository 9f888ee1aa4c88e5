"""Logins of spawned agents: the coordinator makes the database role, and only a node can give it its password.

The password is derived from a key that stays on the machines that start agents. What goes over the wire is a SCRAM
verifier, to the coordinator alone, which cannot log in with it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, pack
from bus.errors import BusError
from bus.subjects import Subjects
from deploy.zygote import ZygoteFailed
from swarm.ids import new_id
from swarm.project import Project
from swarm.protocol import Login, Placement

LOGIN_SECONDS: Final = 5.0


class Logins:
    """Those that this node has made. All nodes of a project make the same, so making one again changes nothing."""

    def __init__(self, node: str, swarm: str, bus: Bus, project: Project) -> None:
        self._node = node
        self._swarm = swarm
        self._bus = bus
        self._project = project
        self._made: set[str] = set()

    async def ensure(self, placement: Placement) -> None:
        """Raises ZygoteFailed when the coordinator does not take it, so that the slot tries again later."""
        if placement.agent_id in self._made:
            return
        verifier = await asyncio.to_thread(self._verifier, placement)
        said = said_by(self._node, Login(self._node, placement.agent_id, verifier))
        try:
            subject = Subjects(self._swarm).node_up(self._node, "login")
            await self._bus.request(subject, said, timeout=LOGIN_SECONDS)
        except BusError as error:
            raise ZygoteFailed(f"{placement.agent} has no login yet: {error}") from error
        self._made.add(placement.agent_id)

    def _verifier(self, placement: Placement) -> str:
        from swarm.stores.postgres import role_name
        from swarm.stores.postgres.roles import verifier

        password = self._project.agent_password(self._swarm, placement.agent)
        return verifier(role_name(self._swarm, placement.agent_id), password)


def said_by(node: str, body: msgspec.Struct) -> Envelope:
    """What a node says to the coordinator."""
    return Envelope(
        id=new_id(), sender=node, to="coordinator", room="control", kind="control", body=pack(body)
    )
