"""The contract of the ledger, as the coordinator sees it: the same tables as `store.py`, every row.

Implementations: `stores/postgres/ledger.py`, `stores/memory.py`, under tests/contract/test_ledger.py.
All of a coordinator's state can be rebuilt from here. Every write takes the `epoch` of the caller's
lease into its own transaction (`Ledger.epoch`), so that a coordinator which was paused past its lease
and wakes writes nothing: it gets `LeaseLost`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from swarm.dead_letters import DeadLetter, Requeued
from swarm.errors import StoreError
from swarm.limits import Storm
from swarm.records import (
    DEFAULT_LIMITS,
    AgentPlan,
    AgentRecord,
    Content,
    Desired,
    Dispatch,
    Ended,
    Family,
    HierarchyLimits,
    InboxView,
    MessageView,
    NewChild,
    NewTask,
    Outgoing,
    Receipt,
    Task,
    TaskChange,
    TaskState,
)
from swarm.retention import Pruned, PrunePart, Retention


class LeaseLost(StoreError):
    """Another coordinator has the lease; this one must stop at once and stand by."""


class Ledger(Protocol):
    epoch: int | None
    """The lease under which this ledger writes; None reads only."""

    async def init(self) -> None:
        """Apply the migrations (numbered, under a lock, safe when ten processes start at once)."""

    async def ping(self) -> None: ...

    async def close(self) -> None: ...

    # ── the lease ─────────────────────────────────────────────────────────────────────────────────
    async def take_lease(self, holder: str, seconds: float) -> int | None:
        """Take or renew the coordinator's lease, by the database's clock. Returns the epoch and sets
        `epoch`; None (and `epoch = None`) while another holds it. A new holder gets a higher epoch."""

    async def release_lease(self, holder: str) -> None: ...

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    async def provision(
        self,
        plans: Sequence[AgentPlan],
        passwords: Mapping[str, str],
        limits: HierarchyLimits = DEFAULT_LIMITS,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """Make the registry agree with the swarm file: agents, characters by version, hierarchy, permissions,
        bounds, the `groups` (names of planned agents), and each agent's own database role. `passwords` by agent
        name. Idempotent.
        Agents that are no longer planned are kept as ``stopped``: their mail waits; spawned ones are not touched.
        Needs no lease (it is the deployer's). Raises StoreError when an id is taken by another name, Refused
        (``hierarchy``) when the tree exceeds `limits`."""

    async def agents(self) -> list[AgentRecord]: ...

    async def set_desired(self, agent: str, desired: Desired) -> None:
        """Raises UnknownAgent."""

    # ── how many run ──────────────────────────────────────────────────────────────────────────────
    async def set_replicas(self, agent: str, replicas: int) -> None:
        """How many instances are wanted from now on; it stands until the file's own number changes. 0 is none.
        Raises UnknownAgent."""

    async def oldest_waiting(self, agents: Sequence[str]) -> dict[str, float]:
        """How many seconds the oldest accepted delivery of each has waited; nothing for one without any. Costs the
        same however much waits."""

    async def put_to_sleep(self, agents: Sequence[str]) -> list[str]:
        """Those of these agents that may sleep (`sleep_after`) and have nothing open (no mail, no task given to them
        or by them) are asleep now; their names."""

    async def wake(self, agents: Sequence[str]) -> None:
        """They are not asleep any more."""

    # ── the hierarchy ─────────────────────────────────────────────────────────────────────────────
    async def family(self, agent: str) -> Family:
        """Raises UnknownAgent. What was removed is nobody's child any more."""

    async def roots(self) -> list[str]: ...

    async def spawn(self, parent: str, child: NewChild) -> bool:
        """Make a child of `parent`: registered, with its rights, its character and a role in the database. True when
        it is new; the same name, id and character under the same parent is the same child. Raises NoAuthority
        (the parent may not create children, or has not what the child would have), UnknownAgent, Refused
        (``hierarchy``: depth or fan-out), StoreError (``id_taken``: another character lives under the name)."""

    async def set_verifier(self, agent_id: str, verifier: str) -> bool:
        """What a node says that a spawned agent's role logs in with. False for an agent that was not spawned."""

    async def command_child(self, parent: str, child: str, desired: Desired | None) -> str:
        """Check in one transaction that `parent` may control `child`, and set what is wanted of it, if given. Returns
        the child's name. Raises UnknownChild, NoAuthority."""

    async def remove_child(self, parent: str | None, child: str) -> str:
        """Take a spawned agent out of the swarm; its mail waits. None: the operator does it. Returns its name.
        Raises UnknownChild, UnknownAgent, NoAuthority, and StoreError for an agent of the swarm file."""

    async def permit(self, agent: str, rights: Mapping[str, bool]) -> None:
        """Give and take rights of a spawned agent; what is taken is gone from its subtree with it. Raises UnknownAgent,
        NoAuthority when its parent has not what is given, StoreError for an agent of the swarm file."""

    async def settle_death(self, agent: str) -> list[str]:
        """Do with a dead agent's children what it declares, once for each death. Returns whom it concerned."""

    async def settle_return(self, agent: str) -> list[str]:
        """It lives again: the children that stopped with it start. Returns their names."""

    # ── the way of a message ──────────────────────────────────────────────────────────────────────
    async def accept(self, sender: str, messages: Sequence[Outgoing]) -> list[Receipt]:
        """Accept messages on behalf of `sender` (operators; agents without a store). As `Store.post`."""

    async def claim(self, free: Mapping[str, int]) -> list[Dispatch]:
        """For each agent (by name) up to `free[agent]` of its accepted deliveries, in order: marked
        dispatched, their attempt counted, tasks set ``working``; in one statement. Expired rows are not claimed.
        Results and notices need no place: turns that hold every place may wait for them. So they are claimed
        for every agent named, also with 0 free."""

    async def waiting(self) -> dict[str, int]:
        """How many accepted deliveries wait, for each agent that has any: what a sweep looks at."""

    async def release(self, deliveries: Sequence[int], *, crashed: bool) -> list[Ended]:
        """Dispatched deliveries go back to accepted. With `crashed`, a crash is counted on each, and one
        with 3 crashes dies (reason ``crashed its recipient 3 times``), its task failing with it."""

    async def dispatched(self) -> dict[str, int]:
        """How many deliveries are out, for each agent that has any: what somebody may have in hand."""

    async def release_all_but(self, agent: str, in_flight: Sequence[int]) -> int:
        """All of an agent's dispatched deliveries go back to accepted, but those it says it has in hand."""

    async def end_overdue(self) -> list[Ended]:
        """Expire deliveries past their time and fail tasks past their deadline; senders get a notice or
        result from ``coordinator`` in the same transaction. By the database's clock."""

    async def end_aged(self) -> list[Ended]:
        """Expire what has waited longer than its recipient keeps mail (`MailBounds.inbox_ms`), but results and
        notices; a task fails with it. A thousand at most: a sweep that finds more comes back."""

    # ── dead letters ──────────────────────────────────────────────────────────────────────────────
    async def dead_letters(
        self, *, agent: str | None = None, limit: int = 100, settled: bool = False, oldest: bool = False
    ) -> list[DeadLetter]:
        """The newest (or `oldest`) first, of one recipient if named; with `settled` also those requeued or dropped."""

    async def dead_letter(self, delivery: int) -> DeadLetter | None: ...

    async def dead_letters_of(self, id: str, *, agent: str | None = None) -> list[DeadLetter]:
        """The dead letters of one message, in the order of its deliveries."""

    async def requeue(self, delivery: int, id: str, by: str) -> Requeued:
        """Send a dead letter again, to the same recipient, as message `id` linked to the old (`requeue_of`), as
        if its sender sent it now: today's authority, its recipient's bounds, a new time to live as long as the
        first. A task goes again as `retry` has it, which then finds the same one; its id is the one returned.
        Raises Refused for one that was requeued or dropped before (it says as what, by whom), for results and
        notices, for a sender or recipient that is gone; and what `accept` and `retry` raise."""

    async def drop_dead(self, delivery: int, by: str) -> None:
        """Mark a dead letter as done with; it stays. Raises Refused as `requeue` does."""

    # ── tasks ─────────────────────────────────────────────────────────────────────────────────────
    async def delegate(self, sender: str, tasks: Sequence[NewTask]) -> list[Task]:
        """As `Store.delegate`, on behalf of `sender`; ``operator`` is over everyone."""

    async def cancel(self, by: str, task: str, reason: str = "") -> TaskChange:
        """As `Store.cancel`, on behalf of `by`. Raises UnknownAgent when there is no `by`."""

    async def answer(self, by: str, task: str, answer: Content) -> TaskChange:
        """As `Store.answer`, on behalf of `by`."""

    async def retry(self, by: str, task: str) -> TaskChange:
        """Give a task that failed, was canceled or rejected once more: a new task (`retry_of`), under whoever gave
        the old one and with today's authority. The same call again finds the same one. Raises NoAuthority,
        Refused (``unknown_task``; ``task_state`` when it completed, goes on, or was given 10 times already)."""

    async def wake_tasks(self) -> list[str]:
        """Tasks whose moment has come by the database's clock: another attempt after a failed one; the end of
        those that nobody answered or ended within 7 days. Returns the names of whom to ring."""

    async def ended_of(self, deliveries: Sequence[int]) -> dict[int, str]:
        """Those of these deliveries that expired or died, with the reason: nothing of them will be written."""

    async def tasks(
        self, *, limit: int = 100, state: TaskState | None = None, agent: str | None = None
    ) -> list[Task]:
        """The newest tasks first; of one state, or given by or to one agent. Results and inputs of more than 4 kB
        are left out."""

    async def task(self, id: str) -> Task | None: ...

    async def task_tree(self, id: str) -> list[Task]:
        """All that was delegated below a task, oldest first, without results; at most 1000."""

    async def subtasks(self, id: str) -> list[Task]:
        """The tasks delegated in the course of this one, oldest first."""

    # ── views ─────────────────────────────────────────────────────────────────────────────────────
    async def message(self, id: str) -> MessageView | None: ...

    async def inbox(self, agent: str, *, limit: int = 10) -> InboxView:
        """Raises UnknownAgent."""

    async def prune(
        self, part: PrunePart, retention: Retention, *, after: str = "", most: int = 200
    ) -> Pruned:
        """Forget a batch of what is over: visit at most so many rows of `part`, from where `after` (the last
        batch's `next`) says, and delete those whose age `retention` has passed, by the database's clock. What is
        open, and the conversation or the tree of tasks that it belongs to, stays whole. See `swarm.retention`."""

    async def storms(self, since: int) -> list[Storm]:
        """What was refused since that moment because agents answered each other or sent too much; newest first."""

    async def stats(self) -> dict[str, int]:
        """Deliveries by state and tasks by state: ``{"deliveries.handled": 10, "tasks.completed": 2}``; and how
        many were forgotten since the beginning: ``{"pruned.deliveries.handled": 300}``, or
        refused against loops and storms, by kind: ``{"refused.hops": 1}``. It costs what is open, lost or younger
        than the cleaner's last round, not what was ever handled."""
