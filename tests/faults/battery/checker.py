"""The invariants of docs/reliability.md, a pure function of the evidence each: what is wrong, a sentence each.

They are asked after the quiescence. `tests/faults/test_checker.py` holds a bad history against each of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from swarm.records import TASK_TRANSITIONS, TERMINAL_TASK_STATES
from tests.faults.battery.evidence import Evidence, Row

OPEN: Final = ("accepted", "dispatched")
RESERVED: Final = ("operator", "coordinator")
RIGHTS: Final = ("create_children", "control_children", "access_parent_memory", "announce")
HOPS: Final = 32
CRASHES: Final = 3
CLOCK_SLACK: Final = 1.5
"""Seconds by which an asker may hear of its deadline late: the machine is shared."""


def i1_accepted_is_ended(e: Evidence) -> Iterator[str]:
    known = {row["message"] for row in e.deliveries} | {row["id"] for row in e.tasks}
    for event in e.of("accepted"):
        if event["id"] not in known:
            yield f"message {event['id']} was accepted and is lost"
    for row in e.deliveries:
        if row["state"] in OPEN:
            yield f"delivery {row['seq']} is still {row['state']}"


def i2_effects_once(e: Evidence) -> Iterator[str]:
    effects = Counter((row["agent"], row["message"]) for row in e.effects)
    handled = Counter(row["id"] for row in e.audit if row["what"] == "delivery" and row["new"] == "handled")
    for (agent, message), count in effects.items():
        if count > 1:
            yield f"{agent} has {count} effects of message {message}"
    for seq, count in handled.items():
        if count > 1:
            yield f"delivery {seq} was handled {count} times"
    for row in e.deliveries:
        if row["state"] == "handled" and row["text"].startswith("take"):
            if not effects[row["recipient"], row["message"]]:
                yield f"delivery {row['seq']} was handled and has no effect"
        elif effects[row["recipient"], row["message"]] and row["state"] != "handled":
            yield f"delivery {row['seq']} has an effect and is {row['state']}"


def i3_in_order(e: Evidence) -> Iterator[str]:
    lane_of = {row["seq"]: (row["sender"], row["room"], row["recipient"]) for row in e.deliveries}
    waiting: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for seq in sorted(lane_of):
        waiting[lane_of[seq]].append(seq)
    ended: set[int] = set()
    for row in e.audit:
        if row["what"] != "delivery" or row["new"] in OPEN or row["id"] not in lane_of:
            continue
        lane = waiting[lane_of[row["id"]]]
        while lane and lane[0] in ended:
            lane.pop(0)
        if row["new"] == "handled" and lane and lane[0] < row["id"]:
            yield f"delivery {row['id']} was handled before {lane[0]} of its lane {lane_of[row['id']]}"
        ended.add(row["id"])
    numbers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row in e.effects:
        if row["n"] is not None:
            numbers[row["sender"], row["room"], row["agent"]].append(row["n"])
    for key, seen in numbers.items():
        if any(one > other for one, other in pairwise(seen)):
            yield f"the effects of {key} are out of order"
    sent: dict[tuple[str, ...], set[int]] = defaultdict(set)
    for row in e.deliveries:
        if row["n"] is not None and row["sender"] in RESERVED:
            sent[row["sender"], row["room"], row["recipient"]].add(row["n"])
    for key, all_sent in sent.items():
        if gap := set(range(max(all_sent))) - all_sent:
            yield f"the lane {key} has no row for {sorted(gap)[:5]}"


def i4_only_addressees(e: Evidence) -> Iterator[str]:
    names = {row["name"] for row in e.agents}
    for row in e.deliveries:
        if row["recipient"] is None:
            continue
        if row["recipient"] == row["sender"] or row["recipient"] in RESERVED:
            yield f"delivery {row['seq']} goes to its sender or to nobody"
        elif row["address"] in names and row["address"] != row["recipient"]:
            yield f"delivery {row['seq']} is for {row['address']} and goes to {row['recipient']}"
    to = {(row["message"], row["recipient"]) for row in e.deliveries}
    to |= {(event["id"], event["to"]) for event in e.of("ask")}
    sent = {message for message, _ in to}
    for event in e.of("run"):
        if event["message"] in sent and (event["message"], event["agent"]) not in to:
            yield f"{event['agent']} was handed message {event['message']}, which is not for it"


def i5_no_effect_without_a_send(e: Evidence) -> Iterator[str]:
    known = {row["message"] for row in e.deliveries}
    for row in e.effects:
        if row["message"] not in known:
            yield f"{row['agent']} has an effect of message {row['message']}, which nobody sent"
    known |= {row["id"] for row in e.tasks}
    for event in e.of("refused"):
        if event["id"] in known:
            yield f"message {event['id']} was refused and is in the ledger"


def i6_the_account_is_whole(e: Evidence) -> Iterator[str]:
    accounts = e.of("account")
    for now in accounts:
        if now["accepted"] != now["handled"] + now["dead"] + now["expired"] + now["pending"]:
            yield f"at {now['t']} the account is not whole: {now}"
    for before, now in pairwise(accounts):
        for what in ("accepted", "handled", "dead", "expired"):
            if now[what] < before[what]:
                yield f"at {now['t']} fewer are {what} than before"
    if accounts and accounts[-1]["accepted"] > len(e.deliveries):
        yield f"{accounts[-1]['accepted']} deliveries were there and {len(e.deliveries)} are"
    pairs = Counter((row["message"], row["sender"], row["recipient"]) for row in e.deliveries)
    for pair, count in pairs.items():
        if count > 1:
            yield f"there are {count} deliveries of {pair}"


def i7_tasks_obey(e: Evidence) -> Iterator[str]:
    for row in e.audit:
        if row["what"] == "task" and row["old"] is not None and row["old"] != row["new"]:
            if row["old"] in TERMINAL_TASK_STATES:
                yield f"task {row['id']} had ended as {row['old']} and became {row['new']}"
            elif row["new"] not in TASK_TRANSITIONS[row["old"]]:
                yield f"task {row['id']} became {row['new']} from {row['old']}"
    for task in e.tasks:
        if task["state"] not in TERMINAL_TASK_STATES:
            yield f"task {task['id']} has not ended: {task['state']}"
        if task["result"] != (task["state"] == "completed"):
            yield f"task {task['id']} is {task['state']}, with a result: {task['result']}"
        if task["failures"] > task["max_attempts"]:
            yield f"task {task['id']} went again {task['failures']} times of {task['max_attempts']}"
    for row in e.deliveries:
        if row["crashes"] > CRASHES:
            yield f"delivery {row['seq']} crashed {row['crashes']} instances"


def i8_one_writer(e: Evidence) -> Iterator[str]:
    epoch, holder = 0, None
    for row in e.audit:
        if row["what"] == "lease":
            if row["epoch"] < epoch:
                yield f"the epoch went back from {epoch} to {row['epoch']}"
            if row["epoch"] == epoch and holder not in (None, row["new"]) and row["new"] is not None:
                yield f"epoch {epoch} had two holders, {holder} and {row['new']}"
            epoch, holder = row["epoch"], row["new"] or holder
        elif row["what"] == "delivery" and row["new"] == "dispatched":
            if row["writer"] is not None and row["writer"] != row["epoch"]:
                yield f"delivery {row['id']} was dispatched under epoch {row['writer']} in epoch {row['epoch']}"
            if not row["leased"]:
                yield f"delivery {row['id']} was dispatched without a lease"
            if row["old"] == "dispatched":
                yield f"delivery {row['id']} was dispatched by two"
    for event in e.of("deposed"):
        if event["wrote"]:
            yield f"a coordinator of epoch {event['epoch']} wrote after it had been succeeded"


def i9_rights(e: Evidence) -> Iterator[str]:
    agents: Mapping[str, Row] = {row["name"]: row for row in e.agents}
    for task in e.tasks:
        giver, child = agents.get(task["parent"]), agents.get(task["child"])
        if task["parent"] in RESERVED:
            continue
        if (
            giver is None
            or child is None
            or child["parent"] != task["parent"]
            or not giver["control_children"]
        ):
            yield f"{task['parent']} gave {task['child']} task {task['id']} without the right"
    for name, row in agents.items():
        parent = agents.get(row["parent"] or "")
        for right in RIGHTS if parent is not None else ():
            if row[right] and not parent[right]:
                yield f"{name} may {right} and its parent may not"
        seen, above = {name}, row["parent"]
        while above in agents and above not in seen:
            seen.add(above)
            above = agents[above]["parent"]
        if above in seen:
            yield f"{name} is its own ancestor"
    for event in e.of("read"):
        reader = agents[event["agent"]]
        may = {event["agent"]} | ({reader["parent"]} if reader["access_parent_memory"] else set())
        if foreign := set(event["of"]) - may:
            yield f"{event['agent']} can read the memories of {sorted(foreign)}"


def i10_asks_end_once(e: Evidence) -> Iterator[str]:
    ends: dict[str, list[Row]] = defaultdict(list)
    for event in e.of("ask.end"):
        ends[event["ask"]].append(event)
    for ask in e.of("ask"):
        ended = ends[ask["ask"]]
        if len(ended) != 1:
            yield f"ask {ask['ask']} ended {len(ended)} times"
        elif ended[0]["t"] > ask["t"] + ask["timeout"] + CLOCK_SLACK:
            yield f"ask {ask['ask']} ended {ended[0]['t'] - ask['t']:.1f} s after it began, of {ask['timeout']}"
        elif ended[0]["how"] == "reply" and not ended[0]["right"]:
            yield f"ask {ask['ask']} was answered with another's reply"


def i11_pieces(e: Evidence) -> Iterator[str]:
    pieces: dict[str, list[Row]] = defaultdict(list)
    for event in e.of("piece"):
        pieces[event["ask"]].append(event)
    for ask, said in pieces.items():
        runs: list[str] = []
        expected = 0
        for piece in said:
            if not runs or piece["run"] != runs[-1]:
                if piece["run"] in runs:
                    yield f"ask {ask}: the pieces of two tries are mixed"
                runs.append(piece["run"])
                expected = piece["n"]
                if expected > 1:
                    yield f"ask {ask}: a try begins with piece {expected}"
            if piece["n"] != expected:
                yield f"ask {ask}: piece {piece['n']} came where {expected} was due"
            expected = piece["n"] + 1
        if any(piece["final"] for piece in said[:-1]):
            yield f"ask {ask}: a piece came after the last"


def i12_announcements(e: Evidence) -> Iterator[str]:
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in e.deliveries:
        if row["kind"] == "announce":
            rows[row["message"]].append(row)
    for event in e.of("announced"):
        there = rows[event["id"]]
        if len(there) != event["recipients"]:
            yield f"announcement {event['id']} was for {event['recipients']} and has {len(there)} deliveries"
        for row in there:
            if row["state"] in ("dead", "expired") and not row["reason"]:
                yield f"announcement {event['id']} does not say why {row['recipient']} missed it"


def i13_heals(e: Evidence) -> Iterator[str]:
    for event in e.of("quiet"):
        if event["pending"] or event["seconds"] > event["bound"]:
            yield f"{event['pending']} were pending {event['seconds']} s after the faults had healed"
    for event in e.of("alive"):
        if not event["answers"]:
            yield f"{event['agent']} is alive and deaf"


def i14_no_secret(e: Evidence) -> Iterator[str]:
    for event in e.of("leak"):
        yield f"a planted secret is in {event['where']}"


def i15_nothing_left(e: Evidence) -> Iterator[str]:
    for event in e.of("left"):
        yield f"process {event['pid']} is left: {event['name']}"
    for event in e.of("restarts"):
        if event["most_in_a_minute"] > event["budget"]:
            yield f"{event['agent']} was started {event['most_in_a_minute']} times in a minute"


def i16_bounds(e: Evidence) -> Iterator[str]:
    said: Counter[str] = Counter()
    for row in e.deliveries:
        if row["hops"] > HOPS:
            yield f"message {row['message']} has {row['hops']} hops"
        if row["origin"]:
            said[row["origin"]] += 1
    for limit in e.of("limits"):
        for origin, count in said.items():
            if count > limit["conversation"]:
                yield f"conversation {origin} has {count} messages of {limit['conversation']}"


CHECKS: Final[Mapping[str, Callable[[Evidence], Iterator[str]]]] = {
    "I1": i1_accepted_is_ended,
    "I2": i2_effects_once,
    "I3": i3_in_order,
    "I4": i4_only_addressees,
    "I5": i5_no_effect_without_a_send,
    "I6": i6_the_account_is_whole,
    "I7": i7_tasks_obey,
    "I8": i8_one_writer,
    "I9": i9_rights,
    "I10": i10_asks_end_once,
    "I11": i11_pieces,
    "I12": i12_announcements,
    "I13": i13_heals,
    "I14": i14_no_secret,
    "I15": i15_nothing_left,
    "I16": i16_bounds,
}


def check(evidence: Evidence) -> dict[str, list[str]]:
    """What is wrong by invariant; empty when nothing is."""
    found = {name: list(look(evidence)) for name, look in CHECKS.items()}
    return {name: wrong for name, wrong in found.items() if wrong}
