"""The swarm as it is: who lives, who is whose child, and what was counted."""

from __future__ import annotations

from typing import Any

from coordinator.diagnosis import Diagnosis
from coordinator.directory import Directory
from coordinator.hierarchy import Hierarchy
from coordinator.metrics import Metrics
from coordinator.presence import Presence
from coordinator.router import Router
from coordinator.running import Running
from coordinator.storms import Storms, mark
from coordinator.verbs.verb import Args, NoArgs, Verbs, Wait
from swarm.ledger import Ledger


class PsArgs(Args):
    all: bool = True


class DiagnoseArgs(Args):
    agent: str
    timeout: Wait = 3.0


class Looking:
    def __init__(
        self,
        epoch: int,
        holder: str,
        ledger: Ledger,
        directory: Directory,
        presence: Presence,
        router: Router,
        hierarchy: Hierarchy,
        running: Running,
        diagnosis: Diagnosis,
        storms: Storms,
        metrics: Metrics,
    ) -> None:
        self._epoch = epoch
        self._holder = holder
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._router = router
        self._hierarchy = hierarchy
        self._running = running
        self._diagnosis = diagnosis
        self._storms = storms
        self._metrics = metrics

    def verbs(self) -> Verbs:
        return {
            "ping": (NoArgs, self.ping),
            "ps": (PsArgs, self.ps),
            "tree": (NoArgs, self.tree),
            "stats": (NoArgs, self.stats),
            "diagnose": (DiagnoseArgs, self.diagnose),
        }

    async def ping(self, args: NoArgs) -> dict[str, Any]:
        """`{"coordinator", "epoch", "agents", "instances", "nodes"}`; the last three are counts."""
        return {
            "coordinator": self._holder,
            "epoch": self._epoch,
            "agents": sum(1 for _ in self._directory),
            "instances": len(self._presence.instances),
            "nodes": len(self._presence.nodes),
        }

    async def ps(self, args: PsArgs) -> list[dict[str, Any]]:
        """A row for each instance; with `all`, one for each agent without any, too."""
        rows = self._running.rows(await self._ledger.waiting())
        mark(rows, await self._storms.recent())
        return rows if args.all else [row for row in rows if row["instance"]]

    async def tree(self, args: NoArgs) -> list[dict[str, Any]]:
        return self._hierarchy.tree()

    async def stats(self, args: NoArgs) -> dict[str, Any]:
        """`{"coordinator": counters, "routing": {...}, "ledger": {"deliveries.handled": n, …}}`."""
        return {
            "epoch": self._epoch,
            "coordinator": self._metrics.as_dict(),
            "routing": self._router.stats(),
            "ledger": await self._ledger.stats(),
        }

    async def diagnose(self, args: DiagnoseArgs) -> dict[str, Any]:
        return await self._diagnosis.of(args.agent, args.timeout)
