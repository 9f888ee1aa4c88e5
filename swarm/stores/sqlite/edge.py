"""The store of an agent at the edge: bounded memory, an outbox for the swarm, answers for when it is offline.

It is the store of an agent alone, with bounds:

    memories      at most `max_memories`; of more, the oldest go first, whatever their kind
    the outbox    at most `outbox_size` entries, in the transaction that makes what they stand for. A message
                  that finds it full is refused; memories take at most half of it, and one that finds its half
                  full stays here only, is counted in `not_queued` and logged: an agent that was offline for
                  weeks still remembers and answers
    responses     at most `cache_size`, the least recently used goes first

An entry is a copy: pruning a memory here takes nothing from what the swarm will get.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bus.errors import Refused
from swarm.errors import StoreError
from swarm.records import Committed, Memory, Outgoing, Receipt, Turn
from swarm.stores.checks import check_outgoing, check_text, check_turn, to_json
from swarm.stores.queries import load
from swarm.stores.sqlite.database import SQL, SqliteDatabase
from swarm.stores.sqlite.store import SqliteStore

log = logging.getLogger(__name__)
EDGE_SQL: Final = load("edge.sql")
QUESTION_CHARACTERS: Final = 1_000
"""What is asked at more length than this is nothing common."""


@dataclass(frozen=True, slots=True)
class EdgeBounds:
    """How many of each. `outbox_size` 0: there is no swarm to sync with, and a message to it has no recipient."""

    max_memories: int = 100
    outbox_size: int = 1_000
    cache_size: int = 50


@dataclass(frozen=True, slots=True)
class Entry:
    """`what` waits for the swarm; `seq` says in which order."""

    seq: int
    what: Outgoing | Memory


class EdgeStore(SqliteStore):
    """Owns its file and closes it, unless told otherwise."""

    def __init__(
        self,
        database: SqliteDatabase,
        agent: str,
        agent_id: str,
        bounds: EdgeBounds | None = None,
        *,
        owner: bool = True,
    ) -> None:
        super().__init__(database, agent, agent_id, owner=owner)
        self.bounds = bounds or EdgeBounds()
        self.not_queued = 0
        """How many memories the swarm will not get, because their half of the outbox was full."""

    # ── what it keeps ─────────────────────────────────────────────────────────────────────────────
    async def commit(self, turn: Turn) -> Committed:
        """As in the store of an agent alone; with an outbox, messages wait there for the swarm. Raises StoreError
        ``outbox_full``, and nothing is written then."""
        if not self.bounds.outbox_size or turn.delivery is not None:
            committed = await super().commit(turn)
            await self._prune()
            return committed
        check_turn(turn)
        to_json("The turn", turn)
        await self._keep(turn.memories, turn.outgoing)
        return Committed("committed", tuple(dict.fromkeys(message.to for message in turn.outgoing)))

    async def create_memory(self, memory: Memory) -> None:
        await self._keep((memory,), ())

    async def post(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        if not self.bounds.outbox_size:
            return await super().post(messages)
        check_outgoing(messages)
        to_json("The message", messages)
        await self._keep((), messages)
        return [Receipt(message.id, (message.to,)) for message in messages]

    async def resolve(self, address: str) -> tuple[str, ...]:
        """The address itself: who is behind it, the swarm says when it gets the message. Raises StoreError
        ``outbox_full`` where one more message could not wait, so that whoever would send it hears so."""
        if not self.bounds.outbox_size or address in (self.agent, self.agent_id):
            return await super().resolve(address)
        check_text("The address", address)
        if await self.pending() >= self.bounds.outbox_size:
            raise self._full(1)
        return (address,)

    async def _keep(self, memories: Sequence[Memory], outgoing: Sequence[Outgoing]) -> None:
        rows = [self._memory(memory) for memory in memories]
        entries = [self._entry("message", message.id, message) for message in outgoing]
        for message in outgoing:
            if message.to in (self.agent, self.agent_id):
                raise Refused(
                    f"{message.to} would write to itself; an agent never gets its own message.",
                    reason="own_message",
                )
        copies = [
            self._entry("memory", row["id"], msgspec.structs.replace(memory, created_at=row["created_at"]))
            for row, memory in zip(rows, memories, strict=True)
        ]

        def write(connection: sqlite3.Connection) -> int:
            new = [
                copy
                for row, copy in zip(rows, copies, strict=True)
                if connection.execute(SQL["create_memory"], row).rowcount > 0
            ]
            left = self._queue(connection, entries, new) if self.bounds.outbox_size else 0
            connection.execute(EDGE_SQL["prune_memories"], self._me | {"most": self.bounds.max_memories})
            return left

        if left := await self._run(write, write=True):
            self.not_queued += left
            log.warning(
                "%d memories stay here only, %d in all: their half of the outbox is full; the swarm has been out of "
                "reach too long, or raise outboxSize",
                left,
                self.not_queued,
            )

    def _queue(
        self, connection: sqlite3.Connection, messages: list[dict[str, Any]], memories: list[dict[str, Any]]
    ) -> int:
        """Put them into the outbox; returns how many memories found no place."""
        size, kept = connection.execute(EDGE_SQL["outbox_size"], self._me).fetchone()
        ids = to_json("The ids", [message["id"] for message in messages])
        again = connection.execute(EDGE_SQL["outbox_has"], self._me | {"ids": ids}).fetchone()[0]
        most = self.bounds.outbox_size
        if messages and size + len(messages) - again > most:
            raise self._full(len(messages) - again)
        room = max(min(most // 2 - kept, most - size - len(messages) + again), 0)
        connection.executemany(EDGE_SQL["outbox_add"], [*memories[:room], *messages])
        return len(memories[room:])

    def _entry(self, kind: str, id: str, what: Outgoing | Memory) -> dict[str, Any]:
        return self._me | {"kind": kind, "id": id.lower(), "entry": to_json(f"The {kind}", what)}

    def _full(self, more: int) -> StoreError:
        return StoreError(
            f"The outbox holds {self.bounds.outbox_size} entries that the swarm has not got yet, and takes no {more} "
            "more; bring the agent online so that it syncs, or raise outboxSize.",
            reason="outbox_full",
        )

    async def _prune(self) -> None:
        await self._edge("prune_memories", most=self.bounds.max_memories)

    # ── what waits for the swarm ──────────────────────────────────────────────────────────────────
    async def pending(self) -> int:
        return int((await self._edge("outbox_size"))[0]["size"])

    async def next_entries(self, limit: int) -> list[Entry]:
        """The oldest, in the order in which they were made."""
        return [
            Entry(row["seq"], msgspec.json.decode(row["entry"], type=_TYPES[row["kind"]]))
            for row in await self._edge("outbox_next", limit=limit)
        ]

    async def synced(self, entries: Sequence[Entry], dead: Sequence[tuple[Outgoing, str]] = ()) -> None:
        """The swarm has them, or never will: the messages of `dead` are kept here with their reasons."""
        lost = [self._dead(message) | {"reason": reason} for message, reason in dead]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany(EDGE_SQL["outbox_done"], [self._me | {"seq": one.seq} for one in entries])
            connection.executemany(SQL["keep_dead"], lost)

        await self._run(write, write=True)

    # ── answers for when it is offline ────────────────────────────────────────────────────────────
    async def response(self, room: str, question: str) -> str | None:
        """What was answered when this was last asked in this room."""
        rows = await self._edge("response", room=room, question=plain(question))
        return str(rows[0]["answer"]) if rows else None

    async def keep_response(self, room: str, question: str, answer: str) -> None:
        if not self.bounds.cache_size or not 0 < len(plain(question)) <= QUESTION_CHARACTERS:
            return
        given = self._me | {"room": room, "question": plain(question), "answer": answer}

        def write(connection: sqlite3.Connection) -> None:
            connection.execute(EDGE_SQL["keep_response"], given)
            connection.execute(EDGE_SQL["prune_responses"], self._me | {"most": self.bounds.cache_size})

        await self._run(write, write=True)

    async def count_responses(self) -> int:
        return int((await self._edge("count_responses"))[0][0])

    @property
    def _me(self) -> dict[str, Any]:
        return {"me": self.agent_id}

    async def _edge(self, statement: str, **given: Any) -> list[sqlite3.Row]:
        rows = self._me | given
        return await self._run(
            lambda connection: connection.execute(EDGE_SQL[statement], rows).fetchall(), write=True
        )


def plain(question: str) -> str:
    """A question in the form by which it is known again: without case, spacing and the signs at its end."""
    return " ".join(question.casefold().split()).rstrip("?!. ")


_TYPES: Final[dict[str, Any]] = {"message": Outgoing, "memory": Memory}
