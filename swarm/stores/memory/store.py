"""The store of one agent on a `MemoryDatabase`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Literal

from swarm.errors import StoreError
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
from swarm.stores.memory.accepting import accept
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.delegation import delegate
from swarm.stores.memory.rows import AgentRow, DeliveryRow, agent_record
from swarm.stores.memory.shelf import Shelf, fresh
from swarm.stores.memory.task_life import answer as answer_task
from swarm.stores.memory.task_life import cancel as cancel_task
from swarm.stores.memory.task_life import expect_outcome, settle
from swarm.stores.ranking import Candidate, rank


class MemoryStore:
    def __init__(self, database: MemoryDatabase, agent: str) -> None:
        self.agent = agent
        self._database = database
        self._closed = False

    def __repr__(self) -> str:
        return f"MemoryStore({self.agent!r})"

    def _open(self) -> tuple[MemoryDatabase, AgentRow]:
        if self._closed:
            raise StoreError("The store is closed; open a new one.", reason="closed")
        self._database.check_up()
        row = self._database.names.get(self.agent)
        if row is None or row.reserved or not row.planned:
            raise StoreError(
                "The database refuses this login; provision the agents again.", reason="login_refused"
            )
        return self._database, row

    async def init(self) -> None:
        self._open()

    async def ping(self) -> None:
        self._database.check_up()

    async def close(self) -> None:
        self._closed = True

    # ── the ledger ────────────────────────────────────────────────────────────────────────────────
    async def commit(self, turn: Turn) -> Committed:
        check_turn(turn)
        to_json("The turn", turn)  # refused before anything is written
        database, me = self._open()
        delivery = None
        if turn.delivery is not None:
            delivery = database.deliveries.get(turn.delivery)
            if delivery is None or delivery.recipient != me.id:
                raise StoreError(
                    f"Delivery {turn.delivery} is not yours; the ledger has it under another recipient or not at all.",
                    reason="not_yours",
                )
            if (refusal := self._refusal(delivery, turn)) is not None:
                return refusal
            if turn.dead is not None:
                sender = database.agents[delivery.message.sender]
                delivery.last_error = turn.dead
                database.end_delivery(delivery, "dead", turn.dead)
                return Committed("committed", () if sender.reserved else (sender.name,))
            self._handle(delivery)
        database.remember(me, turn.memories)
        receipts, dead = accept(database, me, turn.outgoing, strict=False, in_hand=delivery)
        recipients = [name for receipt in receipts for name in receipt.recipients]
        if turn.outcome is not None:
            told = settle(database, me, turn.outcome, delivery)
            recipients += [told] if told is not None else []
        elif delivery is not None and delivery.message.kind == "task":
            expect_outcome(database, database.task_of(delivery))
        return Committed("committed", tuple(dict.fromkeys(recipients)), tuple(dead))

    def _refusal(self, delivery: DeliveryRow, turn: Turn) -> Committed | None:
        if delivery.state == "handled":
            return Committed("duplicate")
        if not delivery.open or (delivery.message.kind == "task" and delivery.attempts != turn.attempt):
            return Committed("stale")
        key = (delivery.message.sender, delivery.message.room)
        assert delivery.recipient is not None
        for seq, other in self._database.open[delivery.recipient].items():
            if seq >= delivery.seq:
                break
            if (other.message.sender, other.message.room) == key:
                return Committed("out_of_order")
        return None

    def _handle(self, delivery: DeliveryRow) -> None:
        delivery.move("handled")
        delivery.handled_at = self._database.now()
        self._database.close_delivery(delivery)

    async def post(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        check_outgoing(messages)
        to_json("The message", messages)
        database, me = self._open()
        return accept(database, me, messages, strict=True)[0]

    async def resolve(self, address: str) -> tuple[str, ...]:
        check_text("The address", address)
        database, me = self._open()
        names = tuple(row.name for row in database.addressed(me, address))
        if not names and address not in ("all", "children") and not database.is_group(address):
            raise database.unknown(address)
        return names

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
    async def delegate(self, tasks: Sequence[NewTask]) -> list[Task]:
        check_tasks(tasks)
        database, me = self._open()
        return delegate(database, me, tasks)

    async def get_tasks(self, ids: Sequence[str]) -> list[Task]:
        database, me = self._open()
        rows = [database.tasks.get(check_id("task", id)) for id in ids]
        return [
            database.task_value(row) for row in rows if row is not None and me.id in (row.parent, row.child)
        ]

    async def report(self, task: str, attempt: int, percent: float, note: str) -> bool:
        check_text("The note", note)
        database, me = self._open()
        row = database.tasks.get(check_id("task", task))
        if row is None or row.child != me.id or row.state != "working" or row.attempts != attempt:
            return False
        row.progress, row.note = float(percent), note
        row.touch(database.now())
        return True

    async def cancel(self, task: str, reason: str = "") -> TaskChange:
        check_text("The reason", reason)
        database, me = self._open()
        return cancel_task(database, me, check_id("task", task), reason)

    async def answer(self, task: str, answer: Content) -> TaskChange:
        database, me = self._open()
        return answer_task(database, me, check_id("task", task), answer)

    # ── memory ────────────────────────────────────────────────────────────────────────────────────
    async def create_memory(self, memory: Memory) -> None:
        check_id("memory", memory.id)
        to_json("The memory", memory)
        database, me = self._open()
        database.remember(me, [memory])

    async def get_memories(
        self, *, room: str | None = None, kind: str | None = None, limit: int = 32
    ) -> list[Memory]:
        check_text("The room or kind", room, kind)
        database, me = self._open()
        shelves = [
            list(islice(_of_kind(shelf, room, kind), max(limit, 0)))[::-1]
            for _, shelf in database.readable(me)
        ]
        found = shelves[0] if len(shelves) == 1 else sorted(chain(*shelves), key=lambda m: m.created_at)
        return fresh(found[-limit:])

    async def count_memories(self, *, room: str | None = None, kind: str | None = None) -> int:
        return sum(1 for _ in self._matching(room, kind))

    def _matching(self, room: str | None, kind: str | None) -> Iterator[tuple[str, Memory]]:
        check_text("The room or kind", room, kind)
        database, me = self._open()
        for owner, shelf in database.readable(me):
            for memory in _of_kind(shelf, room, kind):
                yield owner, memory

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
        asked = check_search(text, embedding, model, room, kind)
        known = self._database.embeddings
        candidates = []
        for owner, memory in self._matching(room, kind):
            made_by, vector = known.get((owner, memory.id), ("", None))
            candidates.append(Candidate(memory, vector if made_by == model else None))
        return copy.deepcopy(rank(candidates, text, asked, limit, min_score))

    async def set_embeddings(self, model: str, embeddings: Mapping[str, Sequence[float]]) -> None:
        vectors = check_embeddings(model, embeddings)
        database, me = self._open()
        own = database.shelves.get(me.id, Shelf()).by_id
        for id, vector in vectors.items():
            if id in own:
                database.embeddings[me.id, id] = (model, vector)

    async def embeddings_due(
        self, limit: int, *, kinds: Sequence[str] | None = None, model: str | None = None
    ) -> list[Memory]:
        check_text("The model or kind", model, *(kinds or ()))
        database, me = self._open()
        due = []
        for memory in database.shelves.get(me.id, Shelf()).by_id.values():
            made_by = database.embeddings.get((me.id, memory.id), ("", ()))[0]
            lacks = not made_by or (model is not None and made_by != model)
            if lacks and memory.content.text and (kinds is None or memory.kind in kinds):
                due.append(memory)
        return copy.deepcopy(due[: max(limit, 0)])

    # ── rooms ─────────────────────────────────────────────────────────────────────────────────────
    async def join(self, room: str, state: RoomState = "present") -> None:
        check_room(room)
        database, me = self._open()
        there = database.rooms.setdefault(room, {})
        there[me.id] = (state, there[me.id][1] if me.id in there else database.now())

    async def leave(self, room: str) -> None:
        check_room(room)
        database, me = self._open()
        database.rooms.get(room, {}).pop(me.id, None)

    async def rooms(self) -> list[Room]:
        database, me = self._open()
        return [
            Room(
                id=room,
                state=there[me.id][0],
                joined_at=there[me.id][1],
                participants=tuple(sorted(map(database.name, there))),
            )
            for room, there in sorted(database.rooms.items())
            if me.id in there
        ]

    async def participants(self, room: str) -> list[Participant]:
        check_room(room)
        database, me = self._open()
        there = database.rooms.get(room, {})
        if me.id not in there:
            return []
        found = [
            Participant(name=database.name(id), state=state, joined_at=since)
            for id, (state, since) in there.items()
        ]
        return sorted(found, key=lambda p: p.name)

    # ── itself ────────────────────────────────────────────────────────────────────────────────────
    async def get_character(self, id: str) -> dict[str, Any] | None:
        database, _ = self._open()
        versions = database.characters.get(check_id("character", id))
        return copy.deepcopy(list(versions.values())[-1]) if versions else None

    async def agents(self) -> list[AgentRecord]:
        database, _ = self._open()
        return directory(database)

    async def set_status(self, status: Literal["active", "inactive"]) -> None:
        database, me = self._open()
        if me.status != status:
            me.status, me.updated_at = status, database.now()


def directory(database: MemoryDatabase) -> list[AgentRecord]:
    rows = sorted((a for a in database.agents.values() if not a.reserved), key=lambda a: a.name)
    return [
        agent_record(
            row,
            database.name(row.parent) if row.parent else None,
            database.name(row.birth.of) if row.birth else None,
        )
        for row in rows
    ]


def _of_kind(shelf: Shelf, room: str | None, kind: str | None) -> Iterator[Memory]:
    return (memory for memory in shelf.newest_first(room) if kind is None or memory.kind == kind)
