"""How the instances of an agent are, asked of themselves; one that does not answer is the finding."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, pack
from bus.errors import BusError
from bus.subjects import Subjects
from coordinator.directory import Directory
from coordinator.presence import Instance, Presence
from swarm.ids import new_id
from swarm.protocol import Probe
from swarm.records import COORDINATOR


class Diagnosis:
    def __init__(self, bus: Bus, subjects: Subjects, directory: Directory, presence: Presence) -> None:
        self._bus = bus
        self._subjects = subjects
        self._directory = directory
        self._presence = presence

    async def of(self, agent: str, seconds: float) -> dict[str, Any]:
        """`{"agent", "agent_id", "desired", "asleep", "wanted", "instances": [diagnosis], "silent": [{"instance",
        "node", "pid", "why"}]}`: who answered within `seconds` and who did not. Raises UnknownAgent."""
        record = self._directory.named(agent)
        instances = list(self._presence.of(record.name).values())
        async with asyncio.TaskGroup() as group:
            asked = [(each, group.create_task(self._probe(each, seconds))) for each in instances]
        answers = [(each, task.result()) for each, task in asked]
        return {
            "agent": record.name,
            "agent_id": record.id,
            "desired": record.desired,
            "asleep": record.asleep,
            "wanted": record.wanted,
            "instances": [
                answer | {"node": each.node} for each, answer in answers if isinstance(answer, dict)
            ],
            "silent": [
                {"instance": each.name, "node": each.node, "pid": each.pid, "why": answer}
                for each, answer in answers
                if isinstance(answer, str)
            ],
        }

    async def _probe(self, instance: Instance, seconds: float) -> dict[str, Any] | str:
        probe = Envelope(
            id=new_id(),
            sender=COORDINATOR,
            to=instance.agent,
            room="control",
            kind="control",
            body=pack(Probe()),
        )
        try:
            reply = await self._bus.request(
                self._subjects.down(instance.agent, instance.name), probe, timeout=seconds
            )
            return msgspec.msgpack.decode(reply.body, type=dict[str, Any])
        except (BusError, msgspec.MsgspecError) as error:
            return str(error)
