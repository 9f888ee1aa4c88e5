"""The contract of the store, as one agent sees it. Implementations: `stores/postgres/`, `stores/memory.py`.

A store is opened under one agent's identity, and what it may see and write is decided by the database
(row security on the login role), not by this code. Everything durable that an agent does goes through
`commit` or `post`. One suite holds every implementation: tests/contract/test_store.py.

The coordinator's view of the same tables is in `ledger.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

from swarm.records import AgentRecord, Committed, Memory, NewTask, Outgoing, Receipt, Task, Turn


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
        Raises NoAuthority, UnknownAgent. Idempotent by id: a task that exists is returned as it stands."""

    async def get_tasks(self, ids: Sequence[str]) -> list[Task]:
        """Tasks that this agent gave or was given, in the order of `ids`; unknown ones are left out."""

    async def report(self, task: str, attempt: int, percent: float, note: str) -> bool:
        """Progress of a task in hand; False when the attempt is stale."""

    # ── memory ────────────────────────────────────────────────────────────────────────────────────
    async def create_memory(self, memory: Memory) -> None:
        """Remember outside of a turn. Idempotent by id."""

    async def get_memories(
        self, *, room: str | None = None, kind: str | None = None, limit: int = 32
    ) -> list[Memory]:
        """The latest `limit` memories, oldest first. Only this agent's own (and what it may read of its parent's)."""

    async def count_memories(self, *, room: str | None = None, kind: str | None = None) -> int: ...

    # ── itself ────────────────────────────────────────────────────────────────────────────────────
    async def get_character(self, id: str) -> dict[str, Any] | None:
        """The newest stored version of a character's public document."""

    async def agents(self) -> list[AgentRecord]:
        """The directory, by name."""

    async def set_status(self, status: Literal["active", "inactive"]) -> None:
        """This agent's own row (A16): ``active`` only when initialised. Liveness is not read from it."""
