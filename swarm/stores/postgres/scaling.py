"""The ledger's part that knows how many of an agent run, on Postgres: 0015_scaling.sql decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from swarm.errors import UnknownAgent
from swarm.stores.checks import check_replicas
from swarm.stores.postgres.pool import Connections, Rows
from swarm.stores.queries import load

_SQL: Final = load("ledger.sql")


class ScalingPart:
    """What `PostgresLedger` has of it."""

    _connections: Connections

    async def _write(self, statement: str, *arguments: Any, id: str) -> Rows:
        raise NotImplementedError

    async def _with_near_names(self, address: str) -> UnknownAgent:
        raise NotImplementedError

    async def set_replicas(self, agent: str, replicas: int) -> None:
        check_replicas(replicas)
        if not (await self._write("set_replicas", agent, replicas, id=agent))[0][0]:
            raise await self._with_near_names(agent)

    async def oldest_waiting(self, agents: Sequence[str]) -> dict[str, float]:
        rows = await self._connections.read(_SQL["oldest_waiting"], list(agents))
        return {row["name"]: row["ms"] / 1000 for row in rows}

    async def put_to_sleep(self, agents: Sequence[str]) -> list[str]:
        return sorted(row[0] for row in await self._write("put_to_sleep", list(agents), id="the sleepers"))

    async def wake(self, agents: Sequence[str]) -> None:
        await self._write("wake", list(agents), id="the sleepers")
