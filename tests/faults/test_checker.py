"""The checker is checked: a good history passes, and each bad one is flagged by its invariant and by no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.faults.battery.checker import CHECKS, check
from tests.faults.battery.evidence import Evidence, Recorder

NO_RIGHTS = {
    "create_children": False,
    "control_children": False,
    "access_parent_memory": False,
    "announce": False,
}


def delivery(seq: int, message: str, n: int | None, **fields: Any) -> dict[str, Any]:
    return {
        "seq": seq, "message": message, "sender": "operator", "recipient": "ada", "address": "ada", "room": "r",
        "kind": "tell", "state": "handled", "reason": None, "attempts": 1, "crashes": 0, "hops": 0,
        "origin": None, "text": "take: it", "n": n,
    } | fields  # fmt: skip


def effect(message: str, n: int | None, agent: str = "ada", sender: str = "operator") -> dict[str, Any]:
    return {"agent": agent, "message": message, "sender": sender, "room": "r", "n": n}


def seen(what: str, id: Any, old: str | None, new: str, epoch: int = 1) -> dict[str, Any]:
    return {"what": what, "id": id, "old": old, "new": new, "epoch": epoch, "leased": True, "writer": epoch}


def good() -> Evidence:
    return Evidence(
        events=[
            {"t": 0.0, "what": "limits", "conversation": 2},
            *({"t": 1.0 + n, "what": "accepted", "id": f"m{n}"} for n in range(3)),
            {"t": 1.5, "what": "run", "agent": "ada", "message": "m0"},
            {"t": 2.0, "what": "refused", "id": "m9"},
            {"t": 2.0, "what": "announced", "id": "a", "recipients": 1},
            {"t": 2.0, "what": "account", "accepted": 2, "handled": 1, "dead": 0, "expired": 0, "pending": 1},
            {"t": 4.0, "what": "account", "accepted": 5, "handled": 4, "dead": 1, "expired": 0, "pending": 0},
            {"t": 5.0, "what": "ask", "ask": "q", "id": "q", "to": "ada", "timeout": 3.0},
            {"t": 5.1, "what": "piece", "ask": "q", "run": "1", "n": 0, "final": False},
            {"t": 5.2, "what": "piece", "ask": "q", "run": "2", "n": 0, "final": False},
            {"t": 5.3, "what": "piece", "ask": "q", "run": "2", "n": 1, "final": True},
            {"t": 5.4, "what": "ask.end", "ask": "q", "how": "reply", "right": True},
            {"t": 6.0, "what": "read", "agent": "kid", "of": ["kid", "ada"]},
            {"t": 7.0, "what": "quiet", "pending": 0, "seconds": 2.0, "bound": 60.0},
            {"t": 8.0, "what": "alive", "agent": "ada", "answers": True},
            {"t": 9.0, "what": "restarts", "agent": "ada", "most_in_a_minute": 2, "budget": 5},
        ],
        deliveries=[
            delivery(1, "m0", 0),
            delivery(2, "m1", 1, state="dead", reason="crashed"),
            delivery(3, "m2", 2),
            delivery(4, "a", None, kind="announce", address="all", recipient="kid"),
            delivery(5, "b", None, text="work: it", kind="task", origin="m0", hops=1),
        ],
        tasks=[{
            "id": "k", "parent": "ada", "child": "kid", "state": "completed", "attempts": 1,
            "max_attempts": 3, "failures": 0, "result": True,
        }],
        agents=[
            {"name": "ada", "parent": None, **NO_RIGHTS, "control_children": True, "access_parent_memory": True},
            {"name": "kid", "parent": "ada", **NO_RIGHTS, "access_parent_memory": True},
        ],
        effects=[effect("m0", 0), effect("m2", 2), effect("a", None, agent="kid")],
        audit=[
            seen("lease", None, None, "one"),
            seen("delivery", 1, "accepted", "dispatched"),
            seen("delivery", 1, "dispatched", "handled"),
            seen("delivery", 2, "accepted", "dead"),
            seen("lease", None, "one", "two", epoch=2),
            seen("delivery", 3, "dispatched", "handled", epoch=2),
            seen("task", "k", "submitted", "working"),
            seen("task", "k", "working", "completed"),
        ],
    )  # fmt: skip


def _loses(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "accepted", "id": "gone"})


def _leaves_open(e: Evidence) -> None:
    e.deliveries[4]["state"] = "dispatched"


def _doubles(e: Evidence) -> None:
    e.effects.append(effect("a", None, agent="kid"))


def _handles_twice(e: Evidence) -> None:
    e.audit.append(seen("delivery", 3, "handled", "handled"))


def _overtakes(e: Evidence) -> None:
    e.audit[3], e.audit[5] = e.audit[5], e.audit[3]


def _reorders_effects(e: Evidence) -> None:
    e.effects[0], e.effects[1] = e.effects[1], e.effects[0]


def _leaves_a_gap(e: Evidence) -> None:
    e.deliveries[2]["n"] = e.effects[1]["n"] = 7


def _misdelivers(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "run", "agent": "kid", "message": "m0"})


def _echoes(e: Evidence) -> None:
    e.deliveries[4]["sender"] = "ada"


def _invents(e: Evidence) -> None:
    e.effects.append(effect("never", None))


def _does_what_was_refused(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "refused", "id": "m2"})


def _miscounts(e: Evidence) -> None:
    e.of("account")[1]["pending"] = 1


def _forgets(e: Evidence) -> None:
    e.of("account")[1].update(accepted=6, handled=5)


def _ends_a_task_twice(e: Evidence) -> None:
    e.audit.append(seen("task", "k", "completed", "failed"))


def _jumps(e: Evidence) -> None:
    e.audit[6:] = [seen("task", "k", "submitted", "completed")]


def _completes_without_result(e: Evidence) -> None:
    e.tasks[0]["result"] = False


def _goes_back(e: Evidence) -> None:
    e.audit.append(seen("lease", None, "two", "one", epoch=1))


def _shares_an_epoch(e: Evidence) -> None:
    e.audit.append(seen("lease", None, "two", "three", epoch=2))


def _dispatches_unleased(e: Evidence) -> None:
    e.audit[1]["leased"] = False


def _dispatches_for_another_epoch(e: Evidence) -> None:
    e.audit[1]["writer"] = 0


def _writes_deposed(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "deposed", "epoch": 1, "wrote": True})


def _delegates_without_right(e: Evidence) -> None:
    e.tasks[0].update(parent="kid", child="ada")


def _gives_a_child_more(e: Evidence) -> None:
    e.agents[1]["announce"] = True


def _runs_in_a_circle(e: Evidence) -> None:
    e.agents[0]["parent"] = "kid"
    e.agents[1]["control_children"] = True


def _reads_foreign_memories(e: Evidence) -> None:
    e.of("read")[0]["of"].append("bob")


def _never_ends_an_ask(e: Evidence) -> None:
    e.events = [event for event in e.events if event["what"] != "ask.end"]


def _answers_too_late(e: Evidence) -> None:
    e.of("ask.end")[0]["t"] = 30.0


def _answers_another(e: Evidence) -> None:
    e.of("ask.end")[0]["right"] = False


def _skips_a_piece(e: Evidence) -> None:
    e.of("piece")[2]["n"] = 2


def _mixes_two_tries(e: Evidence) -> None:
    e.of("piece")[2].update(run="1", n=1)


def _forgets_a_recipient(e: Evidence) -> None:
    e.of("announced")[0]["recipients"] = 2


def _stays_deaf(e: Evidence) -> None:
    e.of("alive")[0]["answers"] = False


def _does_not_heal(e: Evidence) -> None:
    e.of("quiet")[0]["seconds"] = 61.0


def _leaks(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "leak", "where": "node.log"})


def _leaves_an_orphan(e: Evidence) -> None:
    e.events.append({"t": 3.0, "what": "left", "pid": 7, "name": "python"})


def _restarts_for_ever(e: Evidence) -> None:
    e.of("restarts")[0]["most_in_a_minute"] = 6


def _hops_too_far(e: Evidence) -> None:
    e.deliveries[4]["hops"] = 33


def _talks_for_ever(e: Evidence) -> None:
    for row in e.deliveries:
        row["origin"] = "m0"


BAD: tuple[tuple[str, Callable[[Evidence], None]], ...] = (
    ("I1", _loses), ("I1", _leaves_open),
    ("I2", _doubles), ("I2", _handles_twice),
    ("I3", _overtakes), ("I3", _reorders_effects), ("I3", _leaves_a_gap),
    ("I4", _misdelivers), ("I4", _echoes),
    ("I5", _invents), ("I5", _does_what_was_refused),
    ("I6", _miscounts), ("I6", _forgets),
    ("I7", _ends_a_task_twice), ("I7", _jumps), ("I7", _completes_without_result),
    ("I8", _goes_back), ("I8", _shares_an_epoch), ("I8", _dispatches_unleased),
    ("I8", _dispatches_for_another_epoch), ("I8", _writes_deposed),
    ("I9", _delegates_without_right), ("I9", _gives_a_child_more), ("I9", _runs_in_a_circle),
    ("I9", _reads_foreign_memories),
    ("I10", _never_ends_an_ask), ("I10", _answers_too_late), ("I10", _answers_another),
    ("I11", _skips_a_piece), ("I11", _mixes_two_tries),
    ("I12", _forgets_a_recipient),
    ("I13", _stays_deaf), ("I13", _does_not_heal),
    ("I14", _leaks),
    ("I15", _leaves_an_orphan), ("I15", _restarts_for_ever),
    ("I16", _hops_too_far), ("I16", _talks_for_ever),
)  # fmt: skip


def test_a_good_history_is_flagged_by_nothing() -> None:
    assert check(good()) == {}


@pytest.mark.parametrize(("invariant", "spoil"), BAD)
def test_each_bad_history_is_flagged_by_exactly_its_invariant(
    invariant: str, spoil: Callable[[Evidence], None]
) -> None:
    evidence = deepcopy(good())
    spoil(evidence)
    assert list(check(evidence)) == [invariant], check(evidence)


def test_every_invariant_has_a_bad_history() -> None:
    assert {invariant for invariant, _ in BAD} == set(CHECKS) == {f"I{n}" for n in range(1, 17)}


def test_the_recorder_writes_each_event_at_once_and_whole(tmp_path: Path) -> None:
    one, other = Recorder(tmp_path / "events"), Recorder(tmp_path / "events")
    for n in range(50):
        one.note("one", n=n)
        other.note("other", n=n)
    lines = (tmp_path / "events").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 100
    times = [event["t"] for event in one.events()]
    assert times == sorted(times)
    one.close()
    other.close()


def test_the_evidence_of_a_failing_run_can_be_looked_at_again(tmp_path: Path) -> None:
    evidence = good()
    _doubles(evidence)
    evidence.save(tmp_path / "evidence.json")
    assert check(Evidence.load(tmp_path / "evidence.json")) == check(evidence)
