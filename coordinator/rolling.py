"""Rolling: fresh processes for an agent, one at a time, so that the others serve meanwhile.

An instance is drained only when the one before it has a successor that is ready. A successor that does not come
within its time ends the roll: the others stay as they are, because what is new may be what is wrong. Slots in which
nothing serves (quarantined, waiting to be started again) are filled anew at once; nobody loses by it.

Begun by `swarm restart`, and by a character whose version in the registry is another than that of an instance: so a
successor of this coordinator goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Final

from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.presence import Instance, Presence
from coordinator.router import Router

log = logging.getLogger(__name__)

ROLL_SECONDS: Final = 90.0
"""How long an instance may take to drain and its successor to be ready."""
LOOK_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Replacing:
    slot: int
    old: str
    until: float


class Rolling:
    def __init__(
        self,
        directory: Directory,
        presence: Presence,
        router: Router,
        placer: Placer,
        *,
        seconds: float = ROLL_SECONDS,
    ) -> None:
        self._directory = directory
        self._presence = presence
        self._router = router
        self._placer = placer
        self.seconds = seconds
        self._versions: dict[str, str] = {}
        self._due: dict[str, list[int]] = {}
        self._replacing: dict[str, Replacing] = {}
        self._wake = asyncio.Event()

    def roll(self, agent: str) -> None:
        """Fresh processes in all slots of this agent, one after the other."""
        record = self._directory.get(agent)
        if record is not None and record.wanted:
            self._due[agent] = list(range(1, record.wanted + 1))
            self._wake.set()

    def renew_fallen(self, agent: str) -> None:
        """Try again at once in the slots that are quarantined."""
        rows = [row for _, row in self._presence.node_rows(agent) if row.status == "quarantined"]
        self._placer.renew((agent, row.slot) for row in rows)

    def replaces(self, agent: str) -> bool:
        """Whether an instance of it is on its way because of a roll."""
        return agent in self._replacing

    def note_versions(self) -> None:
        """Roll whoever has another character than when last looked at. Before every placement; only notes."""
        for record in self._directory:
            known = self._versions.get(record.name)
            if known is not None and known != record.version:
                self.roll(record.name)
            self._versions[record.name] = record.version

    def adopt(self) -> None:
        """At the begin of a term: what runs with another character than the registry's is rolled, too."""
        for instance in self._presence.instances.values():
            record = self._directory.get(instance.agent)
            if record is None or instance.slot is None or not 1 <= instance.slot <= record.wanted:
                continue
            if instance.version not in ("", record.version):
                self._due.setdefault(instance.agent, []).append(instance.slot)
                self._wake.set()

    async def run(self) -> None:
        """Costs nothing while nothing rolls."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._due or self._replacing:
                self.step(self._presence.clock())
                await asyncio.sleep(LOOK_SECONDS)

    def step(self, now: float) -> None:
        for agent in [*self._replacing, *(name for name in self._due if name not in self._replacing)]:
            while self._may_go_on(agent, now) and (due := self._due.get(agent)):
                self._replace(agent, due.pop(0), now)
            if not self._due.get(agent):
                self._due.pop(agent, None)

    def _may_go_on(self, agent: str, now: float) -> bool:
        """Whether no replacement is awaited."""
        replacing = self._replacing.get(agent)
        if replacing is None:
            return True
        record = self._directory.get(agent)
        new = self._at(agent, replacing.slot)
        if (
            record is not None
            and replacing.slot <= record.wanted
            and (new is None or new.name == replacing.old)
        ):
            if now < replacing.until:
                return False
            left = self._due.pop(agent, [])
            log.error(
                "%s/%d was not ready again within %g s; %d replicas stay as they are. `swarm logs %s` says why.",
                agent, replacing.slot, self.seconds, len(left), agent,
            )  # fmt: skip
        del self._replacing[agent]
        return True

    def _replace(self, agent: str, slot: int, now: float) -> None:
        record = self._directory.get(agent)
        if record is None or slot > record.wanted:
            return
        old = self._at(agent, slot)
        if old is not None:
            old.status = "draining"
            self._replacing[agent] = Replacing(slot, old.name, now + self.seconds)
            log.info("%s of %s is replaced", old.name, agent)
        self._placer.renew([(agent, slot)])
        self._router.places_changed(agent)

    def _at(self, agent: str, slot: int) -> Instance | None:
        return next((one for one in self._presence.ready(agent) if one.slot == slot), None)
