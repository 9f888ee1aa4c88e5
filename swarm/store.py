"""The contract of the store, as one agent sees it. Implementations: `stores/postgres/`, `stores/memory/`.

A store is opened under one agent's identity, and what it may see and write is decided by the database
(row security on the login role), not by this code. Everything durable that an agent does goes through
`commit` or `post`. One suite holds every implementation: tests/contract/stores/.

The coordinator's view of the same tables is in `ledger.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

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


class Store(Protocol):
    """Raises StoreDown when the database cannot be reached, Unknown when a write's outcome is not known."""

    agent: str
    """The name of the agent whose eyes these are."""

    async def init(self) -> None:
        """Make ready; idempotent. Holds no connection afterwards if none is needed."""

    async def ping(self) -> None:
        """Raises StoreDown when the database does not answer."""

    async def close(self) -> None:
        """Release what this store opened, by a bounded time. It never touches other agents' data."""

    # ── the ledger ────────────────────────────────────────────────────────────────────────────────
    async def commit(self, turn: Turn) -> Committed:
        """Write a turn: handled mark, memories, outgoing messages and the task's outcome, in one
        transaction and one round trip, on condition that the delivery is not ended yet and that no
        earlier delivery of its (sender, room) is open. Trying again after Unknown is safe: it answers
        ``duplicate``. An outgoing message to an address that names nobody by now is kept as dead with
        its reason, never dropped."""

    async def post(self, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Accept messages outside of a turn, all or none. Raises UnknownAgent. Idempotent by id."""

    async def resolve(self, address: str) -> tuple[str, ...]:
        """The names behind an address, this agent excluded for ``all``. Raises UnknownAgent with near names."""

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
    async def delegate(self, tasks: Sequence[NewTask]) -> list[Task]:
        """Accept tasks for children, all or none; authority is checked in the same transaction.
        Raises NoAuthority, UnknownChild, and Refused (``task_state``) in the course of a task that has ended.
        Idempotent by id: a task that exists is returned as it stands; one with another child, goal or input is
        refused (StoreError, ``id_taken``)."""

    async def get_tasks(self, ids: Sequence[str]) -> list[Task]:
        """Tasks that this agent gave or was given, in the order of `ids`; unknown ones are left out."""

    async def report(self, task: str, attempt: int, percent: float, note: str) -> bool:
        """Progress of a task in hand; False when the attempt is stale."""

    async def cancel(self, task: str, reason: str = "") -> TaskChange:
        """Cancel a task that this agent gave, or that is below one it gave, with all below it. One that has
        ended stays as it is. Raises NoAuthority, Refused (``unknown_task``)."""

    async def answer(self, task: str, answer: Content) -> TaskChange:
        """Answer what a task asked for: it is working again. The same answer twice changes nothing.
        Raises NoAuthority, Refused (``unknown_task``; ``task_state`` when it asks for nothing)."""

    # ── memory ────────────────────────────────────────────────────────────────────────────────────
    async def create_memory(self, memory: Memory) -> None:
        """Remember outside of a turn. Idempotent by id."""

    async def get_memories(
        self, *, room: str | None = None, kind: str | None = None, limit: int = 32
    ) -> list[Memory]:
        """The latest `limit` memories, oldest first. Only this agent's own (and what it may read of its parent's)."""

    async def count_memories(self, *, room: str | None = None, kind: str | None = None) -> int: ...

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
        """What answers best to `text` (its words), to `embedding` (by cosine), or to both; the best first,
        of equals the newest. Of what `get_memories` would show, and within `room` and `kind` if given.

        A text's score t is the share of its words that the memory has, rare words counting more. A vector's
        score c is its cosine, and is 0 for a memory that has no embedding of `model` (yet). Both together make
        1 - (1 - t)(1 - c). What scores 0 or below `min_score` is left out.
        Raises StoreError without a text and an embedding, for an embedding without the `model` that made it
        (vectors of two models do not compare), and for a vector that is none."""

    async def set_embeddings(self, model: str, embeddings: Mapping[str, Sequence[float]]) -> None:
        """Keep vectors by memory id, in place of those that this memory had before. Memories that are not
        this agent's own, or are gone, are left out. Idempotent. Raises StoreError for what is no vector."""

    async def embeddings_due(
        self, limit: int, *, kinds: Sequence[str] | None = None, model: str | None = None
    ) -> list[Memory]:
        """The durable queue: own memories with a text and without an embedding (with `model`: without one that
        this model made), oldest first; of `kinds` only, if given."""

    # ── rooms ─────────────────────────────────────────────────────────────────────────────────────
    async def join(self, room: str, state: RoomState = "present") -> None:
        """Take part in a room, or change how: follow it, mute it. Idempotent; the first joining's time stays."""

    async def leave(self, room: str) -> None:
        """Take part no more. What was remembered there stays."""

    async def rooms(self) -> list[Room]:
        """The rooms that this agent takes part in, by id."""

    async def participants(self, room: str) -> list[Participant]:
        """Who takes part, by name. Nobody, to an agent that does not take part itself."""

    # ── itself ────────────────────────────────────────────────────────────────────────────────────
    async def get_character(self, id: str) -> dict[str, Any] | None:
        """The newest stored version of a character's public document."""

    async def agents(self) -> list[AgentRecord]:
        """The directory, by name."""

    async def set_status(self, status: Literal["active", "inactive"]) -> None:
        """This agent's own row (A16): ``active`` only when initialised. Liveness is not read from it."""
