"""The ledger's part that knows families, on Postgres: swarm/sql/migrations/0010_spawn.sql decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from swarm.errors import UnknownAgent
from swarm.records import Desired, Family, NewChild
from swarm.stores.checks import check_child, check_id, check_rights, check_text, to_json
from swarm.stores.postgres.pool import Connections, Rows
from swarm.stores.queries import load

_SQL: Final = load("ledger.sql")


class HierarchyPart:
    """What `PostgresLedger` has of it."""

    _connections: Connections

    async def _write(self, statement: str, *arguments: Any, id: str) -> Rows:
        raise NotImplementedError

    async def _with_near_names(self, address: str) -> UnknownAgent:
        raise NotImplementedError

    async def family(self, agent: str) -> Family:
        check_text("The agent", agent)
        rows = await self._connections.read(_SQL["family"], agent)
        if not rows:
            raise await self._with_near_names(agent)
        found = rows[0]
        return Family(
            found["parent"], tuple(found["children"]), tuple(found["ancestors"]), tuple(found["subtree"])
        )

    async def roots(self) -> list[str]:
        return [row["name"] for row in await self._connections.read(_SQL["roots"])]

    async def spawn(self, parent: str, child: NewChild) -> bool:
        check_text("The parent", parent)
        check_child(child)
        rows = await self._named("spawn", parent, to_json("The child", child), id=child.id)
        return bool(rows[0][0])

    async def set_verifier(self, agent_id: str, verifier: str) -> bool:
        id = check_id("agent", agent_id)
        check_text("The verifier", verifier)
        return bool((await self._write("set_verifier", id, verifier, id=id))[0][0])

    async def command_child(self, parent: str, child: str, desired: Desired | None) -> str:
        check_text("The child", parent, child)
        return str((await self._write("command_child", parent, child, desired, id=child))[0][0])

    async def remove_child(self, parent: str | None, child: str) -> str:
        check_text("The child", parent, child)
        return str((await self._named("remove_child", parent, child, id=child))[0][0])

    async def permit(self, agent: str, rights: Mapping[str, bool]) -> None:
        check_text("The agent", agent)
        check_rights(rights)
        await self._named("permit", agent, to_json("The rights", dict(rights)), id=agent)

    async def settle_death(self, agent: str) -> list[str]:
        return list((await self._write("settle_death", agent, id=agent))[0][0])

    async def settle_return(self, agent: str) -> list[str]:
        return list((await self._write("settle_return", agent, id=agent))[0][0])

    async def _named(self, statement: str, *arguments: Any, id: str) -> Rows:
        """A write that may find no agent: then the error tells near names."""
        try:
            return await self._write(statement, *arguments, id=id)
        except UnknownAgent as error:
            raise await self._with_near_names(error.address) from None
