"""The children of an agent: made, stopped, started, restarted and removed at run time.

The coordinator takes each request at this agent's own subject, which the bus's server lets nobody else use, and the
ledger checks the right in the transaction that does it. Nothing here decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, pack
from bus.errors import NobodyThere, Refused
from bus.subjects import Subjects
from swarm.errors import NoAuthority, UnknownChild
from swarm.ids import new_id
from swarm.protocol import ChildCommand, Spawn
from swarm.spawning import ChildOptions, new_child

if TYPE_CHECKING:
    from swarm.spawning import Source

CHILD_SECONDS: Final = 30.0
MARGIN: Final = 5.0
"""Seconds beyond the wait until the coordinator's answer is given up."""


class Child(msgspec.Struct, frozen=True):
    """What became of a request. `agent` is the child's name, for `tell`, `ask` and `delegate`; `reason` says why
    it is not ready, if that is known."""

    agent: str
    ready: bool
    instances: tuple[str, ...] = ()
    reason: str = ""
    created: bool = False
    agent_id: str = ""


class Children:
    """`connect` gives it the wire."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._wire: tuple[Bus, Subjects] | None = None

    def connect(self, bus: Bus, subjects: Subjects) -> None:
        self._wire = bus, subjects

    async def spawn(self, character: Source, wait: float, **options: Unpack[ChildOptions]) -> Child:
        child = await new_child(character, project=Path.cwd(), **options)  # the process stands in the project
        return msgspec.convert(await self._request("spawn", Spawn(child, wait), wait), Child)

    async def command(
        self, child: str, action: Literal["stop", "start", "restart", "remove"], wait: float
    ) -> Child:
        said = await self._request("child", ChildCommand(child, action, wait), wait)
        ready = bool(said.get("ready", False))
        return Child(said["agent"], ready, tuple(said["instances"]), "stopped" if said.get("stopped") else "")

    async def _request(self, verb: str, body: msgspec.Struct, wait: float) -> dict[str, Any]:
        if self._wire is None:
            raise NobodyThere(f"Agent {self._name} runs alone; it can have no children.")
        bus, subjects = self._wire
        envelope = Envelope(
            id=new_id(), sender=self._name, to="coordinator", room="control", kind="control", body=pack(body)
        )
        try:
            reply = await bus.request(subjects.up(self._name, verb), envelope, timeout=wait + MARGIN)
        except Refused as error:
            if error.reason == "no_authority":
                raise NoAuthority(error.text) from None
            if error.reason == "unknown_child" and isinstance(body, ChildCommand):
                raise UnknownChild(body.child) from None
            raise
        answer: dict[str, Any] = msgspec.msgpack.decode(reply.body)
        return answer
