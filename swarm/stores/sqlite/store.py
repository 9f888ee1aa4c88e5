"""The store of one agent on a `SqliteDatabase`. It has no ledger: there is nobody else to write to."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from bus.errors import Refused
from swarm.errors import StoreError, UnknownAgent, UnknownChild, unknown_task
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
from swarm.stores.sqlite.database import SQL, SqliteDatabase
from swarm.stores.sqlite.rows import to_agent, to_blob, to_memory, to_object
from swarm.stores.sqlite.search import search

log = logging.getLogger(__name__)
T = TypeVar("T")
NOBODY = ("all", "children")
"""Groups, which may be empty; here they are."""


class SqliteStore:
    def __init__(self, database: SqliteDatabase, agent: str, agent_id: str, *, owner: bool = False) -> None:
        self.agent = agent
        self.agent_id = check_id("agent", agent_id)
        self._database = database
        self._owner = owner
        self._known = False
        self._closed = False

    def __repr__(self) -> str:
        return f"SqliteStore({self.agent!r}, {str(self._database.path)!r})"

    async def init(self) -> None:
        """Raises StoreError for a file that is not this agent's."""
        await self._run(lambda _: None)

    async def ping(self) -> None:
        await self._run(lambda connection: connection.execute(SQL["ping"]).fetchone())

    async def close(self) -> None:
        self._closed = True
        if self._owner:
            await self._database.close()

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, write: bool = False) -> T:
        if self._closed:
            raise StoreError("The store is closed; open a new one.", reason="closed")
        if not self._known:
            await self._database.run(self._enter, write=True)
            self._known = True
        return await self._database.run(work, write=write)

    def _enter(self, connection: sqlite3.Connection) -> None:
        me = {"id": self.agent_id, "name": self.agent, "now": self._database.now()}
        connection.execute(SQL["add_agent"], me)
        row = connection.execute(SQL["agent_of"], me).fetchone()
        if row is None or row["id"] != self.agent_id:
            raise StoreError(
                f"The file {self._database.path} is not {self.agent}'s; give each agent a file of its own.",
                reason="wrong_login",
            )

    async def _read(self, statement: str, **given: Any) -> list[sqlite3.Row]:
        given["me"] = self.agent_id
        return await self._run(lambda connection: connection.execute(SQL[statement], given).fetchall())

    async def _write(self, statement: str, *rows: dict[str, Any]) -> None:
        me = {"me": self.agent_id, "now": self._database.now()}
        given = [me | row for row in rows]
        await self._run(lambda connection: connection.executemany(SQL[statement], given), write=True)

    # ── the ledger that is not here ───────────────────────────────────────────────────────────────
    async def commit(self, turn: Turn) -> Committed:
        """Memories, at once or not at all. Messages have no recipients here: they are kept as dead."""
        check_turn(turn)
        to_json("The turn", turn)
        if turn.delivery is not None:
            raise StoreError(
                f"Delivery {turn.delivery} is not yours; a store alone has no ledger.", reason="not_yours"
            )
        memories = [self._memory(memory) for memory in turn.memories]
        dead = [self._dead(message) for message in turn.outgoing if message.to not in NOBODY]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(SQL["create_memory"], memories)
            connection.executemany(SQL["keep_dead"], dead)

        await self._run(write, write=True)
        for message in dead:
            log.warning("a message to %s is dead: %s", message["address"], message["reason"])
        return Committed("committed", (), tuple(message["id"] for message in dead))

    def _dead(self, message: Outgoing) -> dict[str, Any]:
        own = message.to in (self.agent, self.agent_id)
        return {
            "id": message.id.lower(),
            "me": self.agent_id,
            "address": message.to,
            "room": message.room,
            "kind": message.kind,
            "content": to_json("The message", message.content),
            "reason": "an agent does not write to itself" if own else f"there is no agent '{message.to}'",
            "now": self._database.now(),
        }

    async def post(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        check_outgoing(messages)
        to_json("The message", messages)
        for message in messages:
            if message.to in (self.agent, self.agent_id):
                raise Refused(
                    f"{message.to} would write to itself; an agent never gets its own message.",
                    reason="own_message",
                )
            await self.resolve(message.to)
        return [Receipt(message.id, ()) for message in messages]

    async def resolve(self, address: str) -> tuple[str, ...]:
        check_text("The address", address)
        await self.init()
        if address in NOBODY:
            return ()
        if address in (self.agent, self.agent_id):
            return (self.agent,)
        raise UnknownAgent(address, [self.agent])

    async def delegate(self, tasks: Sequence[NewTask]) -> list[Task]:
        check_tasks(tasks)
        to_json("The task", tasks)
        for task in tasks:
            raise UnknownChild(task.child, [self.agent])
        return []

    async def get_tasks(self, ids: Sequence[str]) -> list[Task]:
        for id in ids:
            check_id("task", id)
        return []

    async def cancel(self, task: str, reason: str = "") -> TaskChange:
        check_text("The reason", reason)
        raise unknown_task(check_id("task", task))

    async def answer(self, task: str, answer: Content) -> TaskChange:
        to_json("The answer", answer)
        raise unknown_task(check_id("task", task))

    async def report(self, task: str, attempt: int, percent: float, note: str) -> bool:
        check_id("task", task)
        check_text("The note", note)
        return False

    # ── memory ────────────────────────────────────────────────────────────────────────────────────
    def _memory(self, memory: Memory) -> dict[str, Any]:
        check_text("The memory", memory.room, memory.entity, memory.kind)
        return {
            "id": check_id("memory", memory.id),
            "me": self.agent_id,
            "room": memory.room,
            "entity": memory.entity,
            "kind": memory.kind,
            "content": to_json("The memory", memory.content),
            "created_at": memory.created_at or self._database.now(),
        }

    async def create_memory(self, memory: Memory) -> None:
        await self._write("create_memory", self._memory(memory))

    async def get_memories(
        self, *, room: str | None = None, kind: str | None = None, limit: int = 32
    ) -> list[Memory]:
        check_text("The room or kind", room, kind)
        rows = await self._read("get_memories", room=room, kind=kind, limit=limit)
        return [to_memory(row) for row in reversed(rows)]

    async def count_memories(self, *, room: str | None = None, kind: str | None = None) -> int:
        check_text("The room or kind", room, kind)
        return int((await self._read("count_memories", room=room, kind=kind))[0][0])

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
        scope = {"me": self.agent_id, "room": room, "kind": kind, "model": model}
        return await self._run(lambda connection: search(connection, scope, text, vector, limit, min_score))

    async def set_embeddings(self, model: str, embeddings: Mapping[str, Sequence[float]]) -> None:
        vectors = check_embeddings(model, embeddings)
        await self._write(
            "set_embedding",
            *({"id": id, "model": model, "vector": to_blob(vector)} for id, vector in vectors.items()),
        )

    async def embeddings_due(
        self, limit: int, *, kinds: Sequence[str] | None = None, model: str | None = None
    ) -> list[Memory]:
        check_text("The model or kind", model, *(kinds or ()))
        wanted = None if kinds is None else to_json("The kinds", list(kinds))
        rows = await self._read("embeddings_due", limit=limit, kinds=wanted, model=model)
        return [to_memory(row) for row in rows]

    # ── rooms ─────────────────────────────────────────────────────────────────────────────────────
    async def join(self, room: str, state: RoomState = "present") -> None:
        check_room(room)
        await self._write("join", {"room": room, "state": state})

    async def leave(self, room: str) -> None:
        check_room(room)
        await self._write("leave", {"room": room})

    async def rooms(self) -> list[Room]:
        def read(connection: sqlite3.Connection) -> list[Room]:
            return [
                Room(
                    id=row["room"],
                    state=row["state"],
                    joined_at=row["joined_at"],
                    participants=tuple(
                        there["name"]
                        for there in connection.execute(
                            SQL["participants"], {"room": row["room"], "me": self.agent_id}
                        )
                    ),
                )
                for row in connection.execute(SQL["rooms"], {"me": self.agent_id}).fetchall()
            ]

        return await self._run(read)

    async def participants(self, room: str) -> list[Participant]:
        check_room(room)
        return [
            Participant(name=row["name"], state=row["state"], joined_at=row["joined_at"])
            for row in await self._read("participants", room=room)
        ]

    # ── itself ────────────────────────────────────────────────────────────────────────────────────
    async def get_character(self, id: str) -> dict[str, Any] | None:
        rows = await self._read("current_character", id=check_id("character", id))
        return to_object(rows[0]["document"]) if rows else None

    async def agents(self) -> list[AgentRecord]:
        return [to_agent(row) for row in await self._read("agents")]

    async def set_status(self, status: Literal["active", "inactive"]) -> None:
        await self._write("set_status", {"status": status})
