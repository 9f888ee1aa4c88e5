"""The store of one agent on Postgres. What it may see and write is decided there: sql/migrations/0003_security.sql."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from swarm.errors import StoreError, UnknownAgent, UnknownChild
from swarm.limits import refused
from swarm.records import (
    AgentRecord,
    Committed,
    Content,
    Found,
    Memory,
    NewTask,
    Outgoing,
    Participant,
    Receipt,
    Room,
    RoomState,
    Task,
    TaskChange,
    Turn,
)
from swarm.stores.checks import (
    MOST_REASON,
    check_embeddings,
    check_id,
    check_outgoing,
    check_room,
    check_search,
    check_tasks,
    check_text,
    check_turn,
    to_json,
)
from swarm.stores.postgres.names import schema_name
from swarm.stores.postgres.pool import Connections
from swarm.stores.postgres.recent import KIND, Recent
from swarm.stores.postgres.rows import to_agent, to_change, to_memory, to_object, to_receipts, to_task
from swarm.stores.postgres.search import Search
from swarm.stores.postgres.together import Together
from swarm.stores.queries import load

_SQL: Final = load("store.sql")
LATEST: Final = 32
"""Messages of a room that are read at least where they are kept: one look at a few often goes before one at all."""


class PostgresStore:
    """`url` logs in as the agent itself (see `agent_url`). Connections: none when idle, `size` at most.

    `sole`: this is the agent at work, not a second pair of eyes; if the database says that it has one replica and
    reads nobody else's memories, its rooms' latest messages are kept here (`recent.py`)."""

    def __init__(
        self,
        url: str,
        swarm: str,
        agent: str,
        agent_id: str,
        *,
        size: int = 2,
        deadline: float = 10.0,
        sole: bool = False,
    ) -> None:
        self.agent = agent
        self.agent_id = check_id("agent", agent_id)
        self._connections = Connections(
            url, schema_name(swarm), size=size, name=f"swarm {agent}", deadline=deadline
        )
        self._search = Search(self._connections, _SQL)
        self._commits = Together(self._connections, _SQL["commit"], _SQL["commit_several"])
        self._posts = Together(self._connections, _SQL["post"], _SQL["post_several"])
        self._sole = sole
        self._recent: Recent | None = None

    def __repr__(self) -> str:
        return f"PostgresStore({self.agent!r}, schema={self._connections.schema!r})"

    async def init(self) -> None:
        """Raises StoreError when the URL is not this agent's."""
        rows = await self._connections.read(_SQL["who_am_i"])
        if rows[0][0] != self.agent_id:
            raise StoreError(
                f"The database URL does not log in as {self.agent}; give each agent its own URL.",
                reason="wrong_login",
            )
        self._recent = Recent() if self._sole and rows[0]["alone"] else None

    async def ping(self) -> None:
        await self._connections.ping(_SQL["ping"])

    async def close(self) -> None:
        await self._connections.close()

    # ── the ledger ────────────────────────────────────────────────────────────────────────────────
    async def commit(self, turn: Turn) -> Committed:
        check_turn(turn)
        name = f"delivery {turn.delivery}" if turn.delivery is not None else "the turn"
        try:
            row = await self._commits.write(to_json("The turn", turn), name)
        except BaseException:
            if self._recent is not None:
                self._recent.forget(turn.memories)
            raise
        if self._recent is not None and row["status"] == "committed":
            self._recent.wrote(turn.memories)
        return Committed(
            row["status"], tuple(dict.fromkeys(row["recipients"])), tuple(str(id) for id in row["dead"])
        )

    async def post(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        if not messages:
            return []
        check_outgoing(messages)
        try:
            row = await self._posts.write(to_json("The message", messages), messages[0].id)
        except UnknownAgent as error:
            raise await self._with_near_names(error) from None
        if row["refused"] is not None:
            raise refused(row["refused"])
        return to_receipts(messages, row["ids"], row["names"])

    async def resolve(self, address: str) -> tuple[str, ...]:
        check_text("The address", address)
        names = tuple(row["name"] for row in await self._connections.read(_SQL["resolve"], address))
        if not names and address not in ("all", "children") and not await self._is_group(address):
            raise await self._with_near_names(UnknownAgent(address))
        return names

    async def _is_group(self, address: str) -> bool:
        """A group that has nobody but this agent in it is no mistake."""
        return address.startswith("group:") and bool(
            (await self._connections.read(_SQL["knows_group"], address))[0][0]
        )

    async def _with_near_names(self, error: UnknownAgent) -> UnknownAgent:
        return UnknownAgent(error.address, await self._names())

    async def _names(self) -> list[str]:
        return [row["name"] for row in await self._connections.read(_SQL["names"])]

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
    async def delegate(self, tasks: Sequence[NewTask]) -> list[Task]:
        if not tasks:
            return []
        check_tasks(tasks)
        try:
            rows = await self._connections.write(_SQL["delegate"], to_json("The task", tasks), id=tasks[0].id)
        except UnknownAgent as error:
            raise UnknownChild(error.address, await self._names()) from None
        return [to_task(row) for row in rows]

    async def cancel(self, task: str, reason: str = "") -> TaskChange:
        check_text("The reason", reason)
        rows = await self._connections.write(
            _SQL["cancel"], check_id("task", task), reason[:MOST_REASON], id=task
        )
        return to_change(rows[0])

    async def answer(self, task: str, answer: Content) -> TaskChange:
        rows = await self._connections.write(
            _SQL["answer"], check_id("task", task), to_json("The answer", answer), id=task
        )
        return to_change(rows[0])

    async def get_tasks(self, ids: Sequence[str]) -> list[Task]:
        rows = await self._connections.read(_SQL["get_tasks"], [check_id("task", id) for id in ids])
        return [to_task(row) for row in rows]

    async def report(self, task: str, attempt: int, percent: float, note: str) -> bool:
        check_text("The note", note)
        rows = await self._connections.write(
            _SQL["report"], check_id("task", task), attempt, float(percent), note, id=task
        )
        return bool(rows)

    # ── memory ────────────────────────────────────────────────────────────────────────────────────
    async def create_memory(self, memory: Memory) -> None:
        check_id("memory", memory.id)
        await self._connections.write(_SQL["create_memory"], to_json("The memory", memory), id=memory.id)
        if self._recent is not None:
            self._recent.forget([memory])

    async def get_memories(
        self, *, room: str | None = None, kind: str | None = None, limit: int = 32
    ) -> list[Memory]:
        check_text("The room or kind", room, kind)
        if room is not None and kind == KIND and self._recent is not None:
            return await self._latest(self._recent, room, limit)
        if room is None:
            rows = await self._connections.read(_SQL["get_memories"], kind, limit)
        else:
            rows = await self._connections.read(_SQL["get_room_memories"], kind, limit, room)
        return [to_memory(row) for row in reversed(rows)]

    async def _latest(self, recent: Recent, room: str, limit: int) -> list[Memory]:
        known = recent.find(room, limit)
        if known is not None:
            return known
        most = max(limit, LATEST)
        reading = recent.begin(room, most)
        rows = await self._connections.read(_SQL["get_room_memories"], KIND, most, room)
        found = [to_memory(row) for row in reversed(rows)]
        recent.fill(room, reading, found)
        return found[-limit:] if limit > 0 else []

    async def count_memories(self, *, room: str | None = None, kind: str | None = None) -> int:
        check_text("The room or kind", room, kind)
        rows = await self._connections.read(_SQL["count_memories"], room, kind)
        return int(rows[0][0])

    async def search_memories(
        self,
        *,
        text: str | None = None,
        embedding: Sequence[float] | None = None,
        model: str | None = None,
        room: str | None = None,
        kind: str | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Found]:
        vector = check_search(text, embedding, model, room, kind)
        return await self._search.run(text, vector, model, room, kind, limit, min_score)

    async def set_embeddings(self, model: str, embeddings: Mapping[str, Sequence[float]]) -> None:
        vectors = check_embeddings(model, embeddings)
        if vectors:
            await self._connections.write(
                _SQL["set_embeddings"], model, to_json("The embedding", vectors), id=next(iter(vectors))
            )

    async def embeddings_due(
        self, limit: int, *, kinds: Sequence[str] | None = None, model: str | None = None
    ) -> list[Memory]:
        check_text("The model or kind", model, *(kinds or ()))
        wanted = None if kinds is None else list(kinds)
        rows = await self._connections.read(_SQL["embeddings_due"], limit, wanted, model)
        return [to_memory(row) for row in rows]

    # ── rooms ─────────────────────────────────────────────────────────────────────────────────────
    async def join(self, room: str, state: RoomState = "present") -> None:
        check_room(room)
        await self._connections.write(_SQL["join"], room, state, id=f"joining {room}")

    async def leave(self, room: str) -> None:
        check_room(room)
        await self._connections.write(_SQL["leave"], room, id=f"leaving {room}")

    async def rooms(self) -> list[Room]:
        return [
            Room(
                id=row["room"],
                state=row["state"],
                joined_at=row["joined_at"],
                participants=tuple(row["participants"]),
            )
            for row in await self._connections.read(_SQL["rooms"])
        ]

    async def participants(self, room: str) -> list[Participant]:
        check_room(room)
        rows = await self._connections.read(_SQL["participants"], room)
        return [Participant(name=row["name"], state=row["state"], joined_at=row["joined_at"]) for row in rows]

    # ── itself ────────────────────────────────────────────────────────────────────────────────────
    async def get_character(self, id: str) -> dict[str, Any] | None:
        rows = await self._connections.read(_SQL["get_character"], check_id("character", id))
        return to_object(rows[0]["document"]) if rows else None

    async def agents(self) -> list[AgentRecord]:
        return [to_agent(row) for row in await self._connections.read(_SQL["agents"])]

    async def set_status(self, status: Literal["active", "inactive"]) -> None:
        await self._connections.write(_SQL["set_status"], status, id=f"status {status}")
