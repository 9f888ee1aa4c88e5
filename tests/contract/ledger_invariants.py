"""What must hold of the ledger's tables after every step: pure checks of what was done and what is there.

The names are those of docs/reliability.md's list. Each returns what is wrong, a sentence each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from swarm.records import TASK_TRANSITIONS, TERMINAL_TASK_STATES
from swarm.stores.memory.database import derived
from tests.contract.ledger_ground import DeliveryRow, Tables

RESERVED = ("operator", "coordinator")
CRASHES = 3


@dataclass
class History:
    """What the machine has done, as far as the ledger said that it was done."""

    sent: dict[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    """By (message, sender): the recipients that were fixed when it was accepted."""
    unheard_of: set[tuple[str, str]] = field(default_factory=set)
    """Messages of a turn whose address named nobody: dead from the start."""
    refused: set[str] = field(default_factory=set)
    """Messages and tasks that were refused and never accepted."""
    tasks: set[str] = field(default_factory=set)
    committed: Counter[int] = field(default_factory=Counter)
    """How often a commit of each delivery, that was not given up, was said to be written."""
    seen: set[int] = field(default_factory=set)
    """All deliveries that were ever there."""
    epochs: list[int] = field(default_factory=list)


def i1_quiescent(now: Tables) -> Iterator[str]:
    """To be asked when nobody has anything to do any more."""
    for row in now.deliveries:
        if row.open:
            yield f"I1: {row} is still open"
    for task in now.tasks:
        if task.state not in TERMINAL_TASK_STATES:
            yield f"I7: {task} has not ended"


def i2_effects_once(done: History, now: Tables) -> Iterator[str]:
    effects = Counter(now.effects)
    for seq in effects.keys() | done.committed.keys():
        if not effects[seq] == done.committed[seq] <= 1:
            yield f"I2: delivery {seq} has {effects[seq]} effects for {done.committed[seq]} commits"


def i3_in_order(before: Tables, now: Tables) -> Iterator[str]:
    open_before = {row.seq for row in before.deliveries if row.open}
    first_open: dict[tuple[str, str, str | None], int] = {}
    for row in now.deliveries:
        if row.open:
            first_open.setdefault(row.lane, row.seq)
    for row in now.deliveries:
        if row.state == "handled" and row.seq in open_before and first_open.get(row.lane, row.seq) < row.seq:
            yield f"I3: {row} was handled before delivery {first_open[row.lane]}"


def i4_i5_nobody_else_and_nothing_unsent(done: History, now: Tables) -> Iterator[str]:
    to: dict[tuple[str, str], list[str | None]] = {}
    for row in now.deliveries:
        if row.recipient is not None and row.recipient in (row.sender, *RESERVED):
            yield f"I4: {row} goes back to its sender, or to nobody"
        if row.message in done.refused:
            yield f"I5: {row} was refused"
        if row.kind in ("tell", "announce"):
            to.setdefault((row.message, row.sender), []).append(row.recipient)
    for key, names in to.items():
        expected = [None] if key in done.unheard_of else sorted(done.sent.get(key, ()))
        if key not in done.sent and key not in done.unheard_of:
            yield f"I5: nobody sent {key}"
        elif sorted(map(str, names)) != sorted(map(str, expected)):
            yield f"I4: {key} was accepted for {expected} and goes to {names}"
    for task in now.tasks:
        if task.id not in done.tasks:
            yield f"I5: nobody gave {task}"


def i6_the_account_is_whole(done: History, now: Tables) -> Iterator[str]:
    done.seen.update(row.seq for row in now.deliveries)
    forgotten = sum(n for what, n in now.pruned.items() if what.startswith("deliveries."))
    if len(now.deliveries) + forgotten != len(done.seen):
        yield f"I6: {len(now.deliveries)} deliveries and {forgotten} forgotten were {len(done.seen)}"
    pairs = Counter((row.message, row.sender, row.recipient) for row in now.deliveries)
    for pair, count in pairs.items():
        if count > 1:
            yield f"I6: {count} deliveries of {pair}"


def i6_whoever_is_concerned_is_told(done: History, now: Tables) -> Iterator[str]:
    """Each tell that ended badly has its notice, each task that ended its result, and there are no others."""
    told = {row.message for row in now.deliveries if row.kind in ("notice", "result")}
    due = (
        {
            derived(f"notice:{row.seq}")
            for row in now.deliveries
            if row.state in ("expired", "dead")
            and row.kind in ("tell", "announce")
            and row.sender not in RESERVED
        }
        | {
            derived(f"result:{task.id}")
            for task in now.tasks
            if task.state in TERMINAL_TASK_STATES and task.parent not in RESERVED
        }
        | {
            derived(f"question:{task.id}:{number}")
            for task in now.tasks
            for number in range(task.inputs)
            if task.parent not in RESERVED
        }
    )
    if now.pruned:  # of the two, either may be forgotten first; but not what an unread notice is about
        due &= told
        told = {row.message for row in now.deliveries if row.kind in ("notice", "result") and row.open} | due
    if due != told:
        yield f"I6: due are the notices and results {due - told}, and nobody is owed {told - due}"


def i6_the_counters_are_right(now: Tables) -> Iterator[str]:
    """How much waits for whom is kept count of, not counted: whatever happens, it must be right."""
    waiting: dict[str, list[int]] = {}
    for row in now.deliveries:
        if row.state == "accepted" and row.recipient is not None:
            waiting.setdefault(row.recipient, [0, 0])[row.kind in ("result", "notice")] += 1
    for agent in waiting.keys() | (now.inboxes or {}).keys():
        counted = (now.inboxes or {}).get(agent, (0, 0))
        if tuple(waiting.get(agent, (0, 0))) != counted:
            yield f"I6: {waiting.get(agent)} messages and answers wait for {agent}, and {counted} are counted"


def i7_tasks_obey(before: Tables, now: Tables) -> Iterator[str]:
    was = {task.id: task for task in before.tasks}
    bodies: dict[str, list[DeliveryRow]] = {}
    for row in now.deliveries:
        if row.kind == "task":
            bodies.setdefault(row.room, []).append(row)
    for task in now.tasks:
        old = was.get(task.id)
        if old is not None:
            if old.state in TERMINAL_TASK_STATES and task != old:
                yield f"I7: {old} had ended and became {task}"
            elif old.state != task.state and task.state not in TASK_TRANSITIONS[old.state]:
                yield f"I7: {old.state} became {task.state}"
            if task.attempts < old.attempts:
                yield f"I7: the attempts of {task} went back from {old.attempts}"
        if task.result != (task.state == "completed"):
            yield f"I7: {task} has a result if and only if it is completed"
        if task.failures > task.max_attempts:
            yield f"I7: {task} went again too often"
        for body in bodies.get(f"task:{task.id}", ()):
            if body.crashes > min(CRASHES, task.max_attempts):
                yield f"I7: {task} crashed {body.crashes} times"
            if body.state in ("expired", "dead") and task.state not in TERMINAL_TASK_STATES:
                yield f"I7: the message of {task} is {body.state} and the task is not"
            if body.open and task.state in TERMINAL_TASK_STATES:
                yield f"I7: {task} has ended and its message waits: {body}"
        if sum(body.open for body in bodies.get(f"task:{task.id}", ())) > 1:
            yield f"I7: {task} is to be done by two at once"


def i8_epochs_go_up(done: History, now: Tables) -> Iterator[str]:
    done.epochs.append(now.epoch)
    for one, other in pairwise(done.epochs[-2:]):
        if other < one:
            yield f"I8: the epoch went back from {one} to {other}"


def all_of_them(done: History, before: Tables, now: Tables) -> list[str]:
    return [
        *i2_effects_once(done, now),
        *i3_in_order(before, now),
        *i4_i5_nobody_else_and_nothing_unsent(done, now),
        *i6_the_account_is_whole(done, now),
        *i6_whoever_is_concerned_is_told(done, now),
        *(i6_the_counters_are_right(now) if now.inboxes is not None else ()),
        *i7_tasks_obey(before, now),
        *i8_epochs_go_up(done, now),
    ]


def oldest_open(now: Tables, lane: tuple[str, str, str | None]) -> DeliveryRow | None:
    return next((row for row in now.deliveries if row.open and row.lane == lane), None)
