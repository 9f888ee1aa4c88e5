"""Enrolment: the machine that holds the authority gives one that was invited what a node needs.

    joining node → coordinator        Enrol, with the credential of the invitation
    coordinator  → a node that enrols  the same, with the joining node's reply address
    that node    → joining node        Enrolled, sealed with the invitation's secret

What it gets: a credential for its own node's name, the key that signs agents' credentials, and what agents' database
passwords are derived from. Any slot may be placed on it sooner or later, so credentials made for it one by one would
end up the same, and it could start nothing while the first machine is away. It gets no other role's key: it cannot
become coordinator, operator or another node, and it knows no database user but the agents'.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from bus.agent_keys import AgentKeys
from bus.bus import Bus, Incoming
from bus.credentials import Authority, Credentials
from bus.envelope import Envelope, error_body, pack, read_body
from bus.errors import BusError, Failed, Refused
from bus.sealing import seal, unseal
from bus.subjects import Subjects
from deploy.invitation import Invitation, Invitations
from deploy.logins import said_by
from deploy.node_settings import NodeSettings
from swarm.ids import new_id
from swarm.project import Project
from swarm.protocol import Enrol

log = logging.getLogger(__name__)

ENROL_SECONDS = 10.0


class Enrolled(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine that joined keeps. All of it is secret."""

    credentials: str
    agent_keys: str
    passwords: str
    settings: dict[str, Any]
    """The fields of `NodeSettings` that are the same on every machine, and those of the invitation."""

    def __repr__(self) -> str:
        return "Enrolled()"


class Enrolment:
    """The giving side, on a node of a project that has the authority."""

    def __init__(self, settings: NodeSettings, project: Project, bus: Bus) -> None:
        self._settings = settings
        self._project = project
        self._bus = bus

    @property
    def possible(self) -> bool:
        return self._project.authority_file.exists()

    async def answer(self, said: Enrol, incoming: Incoming) -> None:
        """Give it, or say why not."""
        if incoming.reply is None:
            return
        kind, body = "reply", msgspec.Raw()
        try:
            body = pack(await asyncio.to_thread(self._give, said))
            log.info("%s has joined", said.node)
        except (BusError, OSError) as error:
            log.warning("%s was not taken in: %s", said.node, error)
            known = error if isinstance(error, BusError) else Failed("The keys could not be read.")
            kind, body = "error", error_body(known)
        answer = Envelope(
            id=new_id(), sender=self._settings.node, to=said.node, room="control", kind=kind, body=body,  # type: ignore[arg-type]
            in_reply_to=incoming.envelope.id,
        )  # fmt: skip
        await self._bus.publish(incoming.reply, answer)

    def _give(self, said: Enrol) -> dict[str, str]:
        authority = Authority.load(self._project.authority_file)
        record = Invitations(self._project).take(said.node, said.machine)
        settings = self._settings
        enrolled = Enrolled(
            credentials=authority.mint("node", said.node).to_text(),
            agent_keys=AgentKeys.of(authority).to_text(),
            passwords=self._project.secret("project"),
            settings={
                "labels": record.labels,
                "most_instances": record.most_instances,
                "log_level": settings.log_level,
                "log_format": settings.log_format,
                "rooms_at_once": settings.rooms_at_once,
                "capacity": settings.capacity,
                "drain_seconds": settings.drain_seconds,
            },
        )
        return {"sealed": seal(record.secret, msgspec.json.encode(enrolled).decode())}


async def enrol(invitation: Invitation, machine: str) -> Enrolled:
    """The taking side: one question. Raises BusError: Refused when the invitation is not good (any more), Disconnected
    or NobodyThere when the swarm cannot be reached."""
    from bus.buses.nats import connect

    who = Credentials.from_text(invitation.credentials)
    bus = await connect(invitation.bus_url.split(","), who, deadline=ENROL_SECONDS)
    try:
        subject = Subjects(invitation.swarm).node_up(invitation.node, "enrol")
        said = said_by(invitation.node, Enrol(invitation.node, machine))
        reply = await bus.request(subject, said, timeout=ENROL_SECONDS)
    finally:
        await bus.drain(1.0)
    try:
        text = unseal(invitation.secret, read_body(reply, dict[str, str])["sealed"])
        return msgspec.json.decode(text, type=Enrolled)
    except (KeyError, msgspec.MsgspecError) as error:
        raise Refused(
            "The swarm's answer is not one; its version may be another.", reason="version"
        ) from error
