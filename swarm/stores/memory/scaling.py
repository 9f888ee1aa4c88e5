"""The ledger's part that knows how many of an agent run, in memory: the rules of 0015_scaling.sql."""

from __future__ import annotations

from collections.abc import Sequence

from swarm.records import AgentPlan
from swarm.stores.checks import check_replicas
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.rows import AgentRow


class ScalingPart:
    """What `MemoryLedger` has of it."""

    def _reading(self) -> MemoryDatabase:
        raise NotImplementedError

    def _writing(self) -> MemoryDatabase:
        raise NotImplementedError

    async def set_replicas(self, agent: str, replicas: int) -> None:
        check_replicas(replicas)
        database = self._writing()
        row = database.agent(agent)
        if row.replicas != replicas:
            row.replicas, row.updated_at = replicas, database.now()

    async def oldest_waiting(self, agents: Sequence[str]) -> dict[str, float]:
        database = self._reading()
        ages: dict[str, float] = {}
        for name in agents:
            row = database.names.get(name)
            waiting = database.open.get(row.id, {}).values() if row is not None else ()
            oldest = next((one for one in waiting if one.state == "accepted"), None)
            if oldest is not None:
                ages[name] = (database.now() - oldest.message.accepted_at) / 1000
        return ages

    async def put_to_sleep(self, agents: Sequence[str]) -> list[str]:
        database = self._writing()
        found = [database.names[name] for name in sorted(set(agents)) if name in database.names]
        sleepers = [row for row in found if _may_sleep(database, row)]
        for row in sleepers:
            row.asleep, row.updated_at = True, database.now()
        return [row.name for row in sleepers]

    async def wake(self, agents: Sequence[str]) -> None:
        database = self._writing()
        for name in agents:
            row = database.names.get(name)
            if row is not None and row.asleep:
                row.asleep, row.updated_at = False, database.now()


def _may_sleep(database: MemoryDatabase, row: AgentRow) -> bool:
    if row.sleep_after is None or row.desired != "running" or row.asleep or database.open.get(row.id):
        return False
    return not any(task.open and row.id in (task.parent, task.child) for task in database.tasks.values())


def plan_scaling(row: AgentRow, plan: AgentPlan) -> None:
    """What a plan makes of the number that is wanted. `row.planned` still says whether it was in the last plan."""
    if not row.planned or row.planned_replicas != plan.replicas or (row.scale and plan.scale is None):
        row.replicas = plan.replicas
    elif plan.scale is not None and row.replicas > 0:
        row.replicas = plan.scale.clamp(row.replicas)
    row.planned_replicas, row.scale, row.sleep_after = plan.replicas, plan.scale, plan.sleep_after
    row.asleep = row.planned and row.asleep and plan.sleep_after is not None
