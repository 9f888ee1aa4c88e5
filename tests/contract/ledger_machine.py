"""A machine that does to the ledger whatever can be done to it, in any order, and looks at the tables after each step.

It is not told what the implementation does: what a claim returns and what becomes of a commit it works out from the
tables as they were, by the rules of docs/design.md, and all else it leaves to the invariants. Coordinators lose their
lease and wake up believing that they have it; instances commit late, twice, out of order and what others have done.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bus.errors import Refused
from swarm.errors import NoAuthority, StoreError, UnknownAgent, UnknownChild
from swarm.ids import string_to_uuid
from swarm.ledger import LeaseLost, Ledger
from swarm.records import (
    TERMINAL_TASK_STATES,
    AgentPermissions,
    Content,
    Dispatch,
    Memory,
    NewChild,
    NewTask,
    Outgoing,
    TaskOutcome,
    Turn,
)
from swarm.retention import PARTS, Retention
from tests.contract import ledger_invariants as invariants
from tests.contract.ledger_ground import GROUPS, START, DeliveryRow, Ground, Tables, TaskRow
from tests.contract.ledger_invariants import History
from tests.contract.store_fixtures import CONTROL, FAMILY, plan

AGENTS = ("boss", "reader", "writer", "stranger")
KID = "kid"
"""A child that is made and taken out again while the machine runs."""
RIGHTS = ("create_children", "control_children", "access_parent_memory", "announce")
LEASE = 30.0
AGES = Retention(messages=2 / 24, announcements=2 / 24, notices=1 / 24, dead=3 / 24, tasks=2 / 24, memories=0)

agents = st.sampled_from(AGENTS)
children = st.sampled_from((*AGENTS, KID))
rights = st.dictionaries(st.sampled_from(RIGHTS), st.booleans())
senders = st.sampled_from(("operator", *AGENTS))
NOBODY = ("nobody", "role:none", "group:none")
rooms = st.sampled_from(("plan", "lobby"))
addresses = st.sampled_from(
    [*AGENTS, *AGENTS, "reader", KID, "parent", "children", "role:summarise", "all", "group:press", *NOBODY]
)
outcomes = st.sampled_from((None, "completed", "completed", "failed", "rejected", "input-required", "again"))
seconds = st.sampled_from((None, None, None, 5, 100))


def kid(permissions: dict[str, bool]) -> NewChild:
    return NewChild(
        name=KID, id=string_to_uuid(KID), character={"name": KID}, version="1", permissions=permissions
    )


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.done = History()
        self.now = START
        self.tables = self.before = Tables()
        self.in_hand: list[Dispatch] = []
        """All that was ever claimed, by whichever coordinator: instances may still have it."""
        self.outgoing: list[tuple[str, Outgoing]] = []
        self.holders: list[tuple[str, Ledger]] = []
        """Coordinators in the order of their terms; the last one has the lease, if it has not run out."""
        self.numbers = 0
        self.parents: dict[str, str | None] = {}
        self.control: set[str] = set()
        self.present: tuple[str, ...] = AGENTS
        """Who is in the swarm."""
        self.settled: set[int] = set()
        """Dead letters that were sent again or dropped."""

    # ── the world ─────────────────────────────────────────────────────────────────────────────────
    @initialize()
    def begin(self) -> None:
        self.ground.fresh()
        self.parents = {each.name: each.parent for each in FAMILY}
        self.control = {each.name for each in FAMILY if each.permissions.control_children}
        self.present, self.settled = AGENTS, set()
        self._succeed()
        # So that there is something to do from the first step on.
        for text in ("one", "two"):
            self._tell("boss", "reader", "plan", text)
        self._tell("operator", "reader", "plan", "three")
        self._delegate("boss", "reader", 2, None, None)
        # Somebody has all of it in hand already, as first attempts, and is thought to be dead.
        self.in_hand += self.ground.run(self._renew().claim({"reader": 4}))
        self.ground.run(self._renew().release_all_but("reader", []))
        self._look()

    def _succeed(self) -> None:
        """The next coordinator takes the lease; the ones before believe that they have it still."""
        name, ledger = f"coordinator-{len(self.holders)}", self.ground.world.another_ledger()
        epoch = self.ground.run(ledger.take_lease(name, LEASE))
        assert epoch is not None and epoch > self.tables.epoch, "I8: the lease was free"
        self.holders.append((name, ledger))

    def _renew(self) -> Ledger:
        """The active coordinator, its lease renewed (under a new epoch, if it had run out)."""
        name, ledger = self.holders[-1]
        epoch = self.ground.run(ledger.take_lease(name, LEASE))
        assert epoch is not None and epoch >= self.tables.epoch
        return ledger

    def _id(self, what: str) -> str:
        self.numbers += 1
        return string_to_uuid(f"{what} {self.numbers}")

    def _look(self) -> None:
        self.before, self.tables = self.tables, self.ground.tables()

    def _row(self, seq: int) -> DeliveryRow | None:
        return next((row for row in self.tables.deliveries if row.seq == seq), None)

    # ── time, coordinators, the registry ──────────────────────────────────────────────────────────
    @rule(by=st.sampled_from((1, 1_000, 10_000, 200_000, 3_600_001, 3 * 3_600_001)))
    def time_passes(self, by: int) -> None:
        self.now += by
        self.ground.set_clock(self.now)

    @rule()
    def another_takes_over(self) -> None:
        self.now += int(LEASE * 1000) + 1
        self.ground.set_clock(self.now)
        self._succeed()

    @precondition(lambda self: self.tables.epoch > 1)
    @rule(data=st.data())
    def a_deposed_one_wakes_up(self, data: st.DataObject) -> None:
        """I8: nothing that it writes is written."""
        current = self._renew().epoch
        assert current is not None
        ledger = self.ground.world.another_ledger()
        ledger.epoch = data.draw(st.integers(1, current - 1))
        wanted = Outgoing(id=self._id("deposed"), to="all", room="plan", content=Content("late"))
        given = NewTask(id=self._id("deposed"), child="reader", goal="late")
        self.done.refused |= {wanted.id, given.id}
        seqs = [row.seq for row in self.tables.deliveries]
        writes = {
            "claim": lambda: ledger.claim(dict.fromkeys(AGENTS, 100)),
            "accept": lambda: ledger.accept("operator", [wanted]),
            "delegate": lambda: ledger.delegate("operator", [given]),
            "release": lambda: ledger.release(seqs, crashed=True),
            "release_all_but": lambda: ledger.release_all_but("reader", []),
            "end_overdue": ledger.end_overdue,
            "set_desired": lambda: ledger.set_desired("reader", "stopped"),
            "prune": lambda: ledger.prune("messages", AGES),
            "spawn": lambda: ledger.spawn("boss", kid({})),
            "remove_child": lambda: ledger.remove_child(None, KID),
            "permit": lambda: ledger.permit(KID, {"announce": False}),
            "requeue": lambda: ledger.requeue(seqs[0], wanted.id, "operator"),
            "drop_dead": lambda: ledger.drop_dead(seqs[0], "operator"),
        }
        name = data.draw(st.sampled_from(sorted(writes)))
        before = self.ground.tables()
        try:
            found = self.ground.run(writes[name]())
        except LeaseLost:
            pass
        else:
            assert name in ("claim", "end_overdue", "prune"), (
                f"I8: a deposed coordinator could {name}: {found}"
            )
        self.ground.run(ledger.close())
        assert self.ground.tables() == before, f"I8: a deposed coordinator's {name} wrote"

    @rule(controls=st.booleans(), writer_has=st.sampled_from(("boss", None)))
    def the_swarm_file_changes(self, controls: bool, writer_has: str | None) -> None:
        """What waits without authority any more goes no further."""
        rights = CONTROL if controls else AgentPermissions()
        plans = [
            plan("boss", permissions=rights) if each.name == "boss"
            else plan("writer", parent=writer_has, roles=each.roles, permissions=each.permissions)
            if each.name == "writer" else each
            for each in FAMILY
        ]  # fmt: skip
        self.ground.run(self._renew().provision(plans, {}, groups=GROUPS))
        self._nobody_has_more_than_its_parent()
        self.parents["writer"] = writer_has
        self.control = {"boss"} if controls else set()
        for row in self.ground.tables().deliveries:
            if row.kind == "task" and row.state == "accepted":
                assert self._controls(row.sender, row.recipient or ""), f"I9: {row} has no authority any more"

    @rule(agent=agents, desired=st.sampled_from(("running", "stopped")))
    def an_operator_stops_or_starts(self, agent: str, desired: Any) -> None:
        self.ground.run(self._renew().set_desired(agent, desired))

    # ── families ──────────────────────────────────────────────────────────────────────────────────
    @rule(parent=st.sampled_from(("boss", "boss", "stranger")), given=rights)
    def spawn(self, parent: str, given: dict[str, bool]) -> None:
        """I9: who may not create children creates none, and a child has no more than its parent."""
        ledger, before = self._renew(), self.ground.tables()
        try:
            new = self.ground.run(ledger.spawn(parent, kid(given)))
        except (Refused, StoreError):
            assert self.ground.tables() == before
            return
        assert parent == "boss" and parent in self.control, f"I9: {parent} made a child"
        assert new == (KID not in self.present)
        if new:
            self.ground.make_login(self._renew(), KID)
            self.parents[KID], self.present = "boss", (*AGENTS, KID)
        self._nobody_has_more_than_its_parent()

    def spawn_again(self) -> None:
        assert self.ground.run(self._renew().spawn("boss", kid({})))
        self.ground.make_login(self._renew(), KID)
        self.parents[KID], self.present = "boss", (*AGENTS, KID)

    @precondition(lambda self: KID in self.present)
    @rule(by=st.sampled_from((None, "boss", "stranger")))
    def remove(self, by: str | None) -> None:
        try:
            self.ground.run(self._renew().remove_child(by, KID))
        except Refused:
            assert by is not None and not self._controls(by, KID)
            return
        assert by is None or self._controls(by, KID), f"I9: {by} removed a child"
        self.present = AGENTS

    @precondition(lambda self: KID in self.present)
    @rule(given=rights)
    def permit(self, given: dict[str, bool]) -> None:
        try:
            self.ground.run(self._renew().permit(KID, given))
        except Refused:
            assert any(given.values())
        self._nobody_has_more_than_its_parent()

    def _nobody_has_more_than_its_parent(self) -> None:
        known = {record.name: record for record in self.ground.run(self._renew().agents())}
        for record in known.values():
            above = known.get(record.parent or "")
            for right in RIGHTS if above is not None else ():
                has = getattr(record.permissions, right), getattr(above.permissions, right)
                assert has != (True, False), f"I9: {record.name} may {right} and {record.parent} may not"

    # ── sending ───────────────────────────────────────────────────────────────────────────────────
    def _behind(self, sender: str, to: str, kind: str) -> list[frozenset[str]]:
        """The sets of recipients that are right; several where one of a role is chosen."""
        others = [name for name in self.present if name != sender]
        match to:
            case "all":
                return [frozenset(others)]
            case "children":
                return [frozenset(name for name in others if self.parents[name] == sender)]
            case "group:press":
                return [frozenset(GROUPS["press"]) - {sender}]
            case "parent":
                above = self.parents.get(sender)
                return [frozenset([above] if above else [])]
            case "role:summarise" if kind == "announce":
                return [frozenset(name for name in others if name in ("reader", "writer"))]
            case "role:summarise":
                return [frozenset([name]) for name in others if name in ("reader", "writer")] or [frozenset()]
            case _:
                return [frozenset([to] if to in self._known() and to != sender else [])]

    @rule(sender=senders, to=addresses, room=rooms, announce=st.booleans(), ttl=seconds)
    def tell(self, sender: str, to: str, room: str, announce: bool, ttl: int | None) -> None:
        kind = "announce" if announce else "tell"
        self._tell(sender, to, room, "so", kind, None if ttl is None else self.now + ttl * 1000)

    def _tell(
        self, sender: str, to: str, room: str, text: str, kind: Any = "tell", expires_at: int | None = None
    ) -> None:
        message = Outgoing(
            id=self._id("message"), to=to, room=room, content=Content(text), kind=kind, expires_at=expires_at
        )
        right = self._behind(sender, to, kind)
        try:
            [receipt] = self._send(sender, message)
        except (UnknownAgent, Refused):
            self.done.refused.add(message.id)
            assert to not in ("all", "children") and right == [frozenset()], f"I5: {to} was not refused"
            return
        assert frozenset(receipt.recipients) in right, f"I4: {to} from {sender} goes to {receipt.recipients}"
        self.done.sent[message.id, sender] = frozenset(receipt.recipients)
        self.outgoing.append((sender, message))

    def _send(self, sender: str, message: Outgoing) -> Any:
        ledger = self._renew()
        if sender == "operator":
            return self.ground.run(ledger.accept(sender, [message]))
        return self.ground.run(self.ground.world.store(sender).post([message]))

    @precondition(lambda self: self.outgoing)
    @rule(data=st.data())
    def tell_again(self, data: st.DataObject) -> None:
        """Whoever lost the receipt gets the same one."""
        sender, message = data.draw(st.sampled_from(self.outgoing))
        assume(any((row.message, row.sender) == (message.id, sender) for row in self.tables.deliveries))
        self._renew()
        before = self.ground.tables()
        [receipt] = self._send(sender, message)
        assert frozenset(receipt.recipients) == self.done.sent[message.id, sender]
        assert self.ground.tables() == before

    def _may(self, sender: str, child: str) -> bool:
        """Also while the child is taken out: it is known, and what is for it waits."""
        return child in self._known() and self._controls(sender, child)

    def _known(self) -> tuple[str, ...]:
        return (*AGENTS, KID) if KID in self.parents else AGENTS

    def _controls(self, sender: str, child: str) -> bool:
        return sender == "operator" or (self.parents.get(child) == sender and sender in self.control)

    @rule(sender=senders, child=children, most=st.integers(1, 4), ttl=seconds, data=st.data())
    def delegate(self, sender: str, child: str, most: int, ttl: int | None, data: st.DataObject) -> None:
        mine = [task.id for task in self.tables.tasks if task.child == sender]
        above = data.draw(st.sampled_from([None, *mine]))
        self._delegate(sender, child, most, above, None if ttl is None else self.now + ttl * 1000)

    def _delegate(self, sender: str, child: str, most: int, above: str | None, deadline: int | None) -> None:
        task = NewTask(
            id=self._id("task"), child=child, goal="do it", max_attempts=most, parent_task=above,
            deadline=deadline,
        )  # fmt: skip
        ledger, store = self._renew(), self.ground.world.store
        for again in (False, True):
            try:
                [given] = self.ground.run(
                    ledger.delegate(sender, [task])
                    if sender == "operator"
                    else store(sender).delegate([task])
                )
            except (NoAuthority, UnknownAgent, UnknownChild) as error:
                self.done.refused.add(task.id)
                assert not self._may(sender, child), error
                return
            assert self._may(sender, child), f"I9: {sender} gave {child} a task"
            assert (given.id, given.state, given.child) == (task.id, "submitted", child), again
            self.done.tasks.add(task.id)

    # ── the way of a delivery ─────────────────────────────────────────────────────────────────────
    @precondition(lambda self: any(row.state == "accepted" for row in self.tables.deliveries))
    @rule(data=st.data(), free=st.integers(0, 4))
    def claim(self, data: st.DataObject, free: int) -> None:
        has = {row.recipient for row in self.tables.deliveries if row.state == "accepted" and row.recipient}
        agent = data.draw(st.sampled_from(sorted(has)))
        ledger = self._renew()
        waiting = [row for row in self.tables.deliveries if (row.recipient, row.state) == (agent, "accepted")]
        waiting = [row for row in waiting if row.expires_at is None or row.expires_at > self.now]
        passing = [row for row in waiting if row.kind in ("result", "notice")]
        others = [row for row in waiting if row not in passing]
        got = self.ground.run(ledger.claim({agent: free}))
        assert [one.delivery for one in got] == sorted(row.seq for row in passing + others[:free])
        for one, row in zip(got, sorted(passing + others[:free], key=lambda row: row.seq), strict=True):
            assert (one.id, one.sender, one.recipient, one.room) == (row.message, row.sender, agent, row.room)
            assert (one.attempt, one.crashes) == (row.attempts + 1, row.crashes)
        self.in_hand += got

    @precondition(lambda self: any(row.state == "dispatched" for row in self.tables.deliveries))
    @rule(data=st.data(), gives_up=st.sampled_from((False, False, False, True)), ends=outcomes,
          tells=addresses | st.none())  # fmt: skip
    def commit(self, data: st.DataObject, gives_up: bool, ends: Any, tells: str | None) -> None:
        """An instance commits something that it has, in whatever order."""
        dispatched = {row.seq for row in self.tables.deliveries if row.state == "dispatched"}
        has = [one for one in self.in_hand if one.delivery in dispatched and one.recipient in self.present]
        assume(has)
        self._commit(data.draw(st.sampled_from(has)), gives_up, ends, tells)

    @precondition(lambda self: self.in_hand)
    @rule(data=st.data(), gives_up=st.booleans(), ends=outcomes)
    def commit_late(self, data: st.DataObject, gives_up: bool, ends: Any) -> None:
        """An instance commits what it was once sent, whatever became of it since: done by another, given back,
        dead, a newer attempt."""
        was = self._renew() and self.ground.tables()
        one = data.draw(st.sampled_from(self.in_hand))
        assume(one.recipient in self.present)
        expected = self._verdict(one)
        self._commit(one, gives_up, ends, "all")
        if expected != "committed":
            assert self.ground.tables() == was, f"a commit that is {expected} wrote something"

    def _commit(self, one: Dispatch, gives_up: bool, ends: Any, tells: str | None) -> None:
        expected = self._verdict(one)
        effect = Memory(
            id=self._id("effect"),
            room=one.room,
            entity="test",
            content=Content(data={"delivery": one.delivery}),
        )
        reply = (
            [Outgoing(id=self._id("reply"), to=tells, room=one.room, content=Content("so"))] if tells else []
        )
        outcome = None
        if one.kind == "task" and ends is not None:
            outcome = self._outcome(one.room.removeprefix("task:"), ends)
        turn = Turn(
            delivery=one.delivery,
            attempt=one.attempt,
            instance="one",
            memories=(effect,),
            outgoing=tuple(reply),
            outcome=outcome,
            dead="given up" if gives_up else None,
        )
        try:
            status = self.ground.run(self.ground.world.store(one.recipient).commit(turn)).status
        except StoreError as error:
            assert error.reason == "not_yours" and expected == "forgotten", (error, expected)
            return
        assert status == expected, f"{one.delivery} is {status} and not {expected}"
        if status == "committed" and not gives_up:
            self.done.committed[one.delivery] += 1
            for message in reply:
                self._sent_in_a_turn(one.recipient, message)

    @staticmethod
    def _outcome(task: str, ends: Any) -> TaskOutcome:
        match ends:
            case "completed":
                return TaskOutcome(task, "completed", Content("done"))
            case "input-required":
                return TaskOutcome(task, "input-required", question="which?")
            case "again":
                return TaskOutcome(task, "failed", None, "not now", retryable=True, retry_ms=1_000)
        return TaskOutcome(task, ends, None, "it cannot be done")

    def _verdict(self, one: Dispatch) -> str:
        row = self._row(one.delivery)
        if row is None:
            return "forgotten"
        if row.state == "handled":
            return "duplicate"
        if not row.open or (row.kind == "task" and row.attempts != one.attempt):
            return "stale"
        older = invariants.oldest_open(self.tables, row.lane)
        return "committed" if older is None or older.seq >= row.seq else "out_of_order"

    def _sent_in_a_turn(self, sender: str, message: Outgoing) -> None:
        right = self._behind(sender, message.to, message.kind)
        if right == [frozenset()] and message.to not in ("all", "children"):
            self.done.unheard_of.add((message.id, sender))
            return
        rows = [row for row in self.ground.tables().deliveries if row.message == message.id]
        assert frozenset(row.recipient for row in rows) in right
        self.done.sent[message.id, sender] = frozenset(row.recipient or "" for row in rows)

    @precondition(lambda self: any(row.state == "dispatched" for row in self.tables.deliveries))
    @rule(data=st.data(), crashed=st.booleans())
    def release(self, data: st.DataObject, crashed: bool) -> None:
        some = st.sets(st.sampled_from([row.seq for row in self.tables.deliveries]), min_size=1)
        seqs = data.draw(some)
        was = {row.seq: row for row in self.tables.deliveries}
        left = {f"task:{task.id}": task.max_attempts - task.failures for task in self.tables.tasks}
        ended = self.ground.run(self._renew().release(sorted(seqs), crashed=crashed))
        dying = [
            row.seq
            for row in was.values()
            if crashed
            and row.seq in seqs
            and row.state == "dispatched"
            and (row.crashes + 1 >= 3 or (row.kind == "task" and left[row.room] <= 1))
        ]
        assert [one.delivery for one in ended] == dying

    @rule(agent=agents, data=st.data())
    def release_all_but(self, agent: str, data: st.DataObject) -> None:
        has = [
            row.seq for row in self.tables.deliveries if (row.recipient, row.state) == (agent, "dispatched")
        ]
        kept = data.draw(st.sets(st.sampled_from(has))) if has else set()
        count = self.ground.run(self._renew().release_all_but(agent, sorted(kept)))
        assert count == len(has) - len(kept)

    @rule()
    def end_overdue(self) -> None:
        self.ground.run(self._renew().end_overdue())
        for row in self.ground.tables().deliveries:
            late = row.expires_at is not None and row.expires_at <= self.now
            assert not (late and row.state == "accepted"), f"{row} is overdue"

    @precondition(lambda self: self.tables.tasks)
    @rule(data=st.data())
    def report(self, data: st.DataObject) -> None:
        task = data.draw(st.sampled_from(self.tables.tasks))
        assume(task.child in self.present)
        attempt = data.draw(st.integers(max(task.attempts - 1, 0), task.attempts))
        written = self.ground.run(self.ground.world.store(task.child).report(task.id, attempt, 50.0, "half"))
        assert written == (task.state == "working" and attempt == task.attempts)

    # ── the life of a task ────────────────────────────────────────────────────────────────────────
    def _is_over(self, by: str, task: TaskRow) -> bool:
        """I9: whoever gave it or one above it, and those above its child who control their children."""
        known = {each.id: each for each in self.tables.tasks}
        above: TaskRow | None = task
        while above is not None:
            if above.parent == by:
                return True
            above = known.get(above.parent_task or "")
        elder = self.parents.get(task.child)
        while elder is not None and elder != by:
            elder = self.parents.get(elder)
        return by == "operator" or (elder == by and by in self.control)

    @precondition(lambda self: self.tables.tasks)
    @rule(data=st.data(), by=senders, what=st.sampled_from(("cancel", "answer", "answer", "retry")))
    def decide_over_a_task(self, data: st.DataObject, by: str, what: str) -> None:
        ledger, task = self._renew(), data.draw(st.sampled_from(self.tables.tasks))
        before = self.ground.tables()
        verbs = {
            "cancel": lambda: ledger.cancel(by, task.id),
            "answer": lambda: ledger.answer(by, task.id, Content("this one")),
            "retry": lambda: ledger.retry(by, task.id),
        }
        try:
            changed = self.ground.run(verbs[what]()).task
        except NoAuthority:
            assert what == "retry" or not self._is_over(by, task), f"I9: {by} may {what} {task}"
            assert self.ground.tables() == before
        except (Refused, StoreError):
            assert (
                what != "cancel" and task.state != ("input-required" if what == "answer" else "failed")
            ) or (what == "retry")
            assert self.ground.tables() == before
        else:
            assert self._is_over(by, task), f"I9: {by} could {what} {task}"
            self.done.tasks.add(changed.id)
            if what == "cancel":
                assert changed.state in TERMINAL_TASK_STATES
                assert changed.state == (task.state if task.state in TERMINAL_TASK_STATES else "canceled")

    # ── dead letters ──────────────────────────────────────────────────────────────────────────────
    @precondition(lambda self: any(row.state in ("expired", "dead") for row in self.tables.deliveries))
    @rule(data=st.data(), drops=st.booleans())
    def settle_a_dead_letter(self, data: st.DataObject, drops: bool) -> None:
        """Once, and what goes again goes with today's authority, to the same recipient, under a new id."""
        lost = [row for row in self.tables.deliveries if row.state in ("expired", "dead")]
        row, ledger, id = data.draw(st.sampled_from(lost)), self._renew(), self._id("again")
        before = self.ground.tables()
        try:
            if drops:
                self.ground.run(ledger.drop_dead(row.seq, "operator"))
            else:
                id = self.ground.run(ledger.requeue(row.seq, id, "operator")).id
        except (Refused, StoreError) as error:
            assert self.ground.tables() == before
            self.done.refused.add(id)
            gone = {row.sender, row.recipient} - {*self.present, "operator"}
            unfit = row.kind not in ("tell", "announce", "task") or gone
            powerless = row.kind == "task" and (
                not self._may(row.sender, row.recipient or "")
                or any(
                    task.state not in ("failed", "canceled", "rejected")
                    for task in self.tables.tasks
                    if row.room == f"task:{task.id}"
                )
            )
            assert row.seq in self.settled or (not drops and (unfit or powerless)), (row, error)
            return
        assert row.seq not in self.settled, f"{row} was settled twice"
        self.settled.add(row.seq)
        if drops:
            assert self.ground.tables() == before
        elif row.kind == "task":
            assert self._may(row.sender, row.recipient or ""), f"I9: {row} went again"
            self.done.tasks.add(id)
        else:
            self.done.sent[id, row.sender] = frozenset({row.recipient or ""})

    @rule()
    def wake_tasks(self) -> None:
        self.ground.run(self._renew().wake_tasks())

    @rule(most=st.sampled_from((1, 3, 100)))
    def clean(self, most: int) -> None:
        """Nothing that is open is ever forgotten, and no tree is cut."""
        was = self.tables
        ledger = self._renew()
        for part in PARTS:
            after = ""
            for _ in range(1_000):
                after = self.ground.run(ledger.prune(part, AGES, after=after, most=most)).next
                if not after:
                    break
        now = self.ground.tables()
        left, tasks = {row.seq for row in now.deliveries}, {task.id for task in now.tasks}
        assert left >= {row.seq for row in was.deliveries if row.open}
        assert tasks >= {task.id for task in was.tasks if task.state not in TERMINAL_TASK_STATES}
        self._look()
        self._counts_are_right()

    def _counts_are_right(self) -> None:
        """Nobody counts all of it any more; what is said must be so all the same."""
        counted = Counter(f"deliveries.{row.state}" for row in self.tables.deliveries)
        counted.update(f"tasks.{task.state}" for task in self.tables.tasks)
        said = self.ground.run(self._renew().stats())
        said = {what: n for what, n in said.items() if what.startswith(("deliveries.", "tasks."))}
        assert said == counted, f"I6: {said} are counted, and {counted} are there"

    # ── after each step ───────────────────────────────────────────────────────────────────────────
    @invariant()
    def everything_holds(self) -> None:
        if not self.holders:
            return
        self._look()
        wrong = invariants.all_of_them(self.done, self.before, self.tables)
        assert not wrong, "\n".join(wrong)

    def teardown(self) -> None:
        """I1, I13: when nobody is in the way, everything that was accepted comes to its end."""
        try:
            self._end()
        finally:
            for _, ledger in self.holders:
                self.ground.run(ledger.close())

    def _end(self) -> None:
        if not self.holders or not self.tables.epoch:
            return
        for number in range(30):
            self._settle()
            if not [*invariants.i1_quiescent(self.tables)]:
                return
            if number > 3:  # what waits for a moment, or for a word of somebody
                self.now += 8 * 86_400_000
                self.ground.set_clock(self.now)
        raise AssertionError("\n".join(invariants.i1_quiescent(self.tables)))

    def _settle(self) -> None:
        ledger = self._renew()
        self.ground.run(ledger.end_overdue())
        self._look()
        self.ground.run(ledger.wake_tasks())
        everybody = self._known()
        for agent in everybody:
            self.ground.run(ledger.release_all_but(agent, []))
        self._look()
        if KID in everybody and KID not in self.present:  # it comes back for its mail
            self.ground.run(ledger.set_desired("boss", "running"))
            self.ground.run(
                ledger.provision([plan("boss", permissions=CONTROL), *FAMILY[1:]], {}, groups=GROUPS)
            )
            self.control = {"boss"}
            self.spawn_again()
        for one in self.ground.run(ledger.claim(dict.fromkeys(everybody, 100))):
            self._look()
            self._commit(one, False, "completed", None)
        self._look()
        wrong = invariants.all_of_them(self.done, self.before, self.tables)
        assert not wrong, "\n".join(wrong)
