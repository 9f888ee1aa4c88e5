"""Delegation on every implementation: authority, one terminal state, fenced attempts, results."""

from __future__ import annotations

import pytest

from swarm.errors import NoAuthority, StoreError, UnknownAgent, UnknownChild
from swarm.ids import new_id, string_to_uuid
from swarm.records import AgentPermissions, Committed, Content, Ended, NewTask, TaskOutcome, Turn
from tests.contract.store_fixtures import CONTROL, FAMILY, World, memory, now, plan, task


def done(id: str, text: str = "done") -> TaskOutcome:
    return TaskOutcome(id, "completed", Content(text, {"pages": 3}))


async def test_a_task_runs_from_submitted_to_its_result(world: World) -> None:
    given = task("reader", input={"page": 1}, deadline=now() + 60_000, hops=2, traceparent="00-aa-bb-01")
    (accepted,) = await world.store("boss").delegate([given])
    assert (accepted.parent, accepted.child, accepted.goal, accepted.state, accepted.attempts) == (
        "boss",
        "reader",
        "read it",
        "submitted",
        0,
    )
    (got,) = await world.claim("reader")
    assert (got.kind, got.id, got.room, got.sender, got.attempt) == (
        "task",
        given.id,
        f"task:{given.id}",
        "boss",
        1,
    )
    assert got.content.text == "read it"
    assert got.content.data["task"] == given.id and got.content.data["input"] == {"page": 1}
    assert (await world.store("reader").get_tasks([given.id]))[0].state == "working"

    assert await world.store("reader").report(given.id, 1, 40.0, "half way")
    assert not await world.store("reader").report(given.id, 2, 50.0, "another attempt's")
    assert not await world.store("boss").report(given.id, 1, 50.0, "not mine")

    turn = Turn(delivery=got.delivery, attempt=1, outcome=done(given.id))
    assert await world.store("reader").commit(turn) == Committed("committed", ("boss",))
    assert await world.store("reader").commit(turn) == Committed("duplicate")
    (ended,) = await world.store("boss").get_tasks([given.id])
    assert (ended.state, ended.attempts, ended.result, ended.error) == (
        "completed",
        1,
        Content("done", {"pages": 3}),
        None,
    )
    assert (ended.progress, ended.note) == (40.0, "half way")

    (result,) = await world.claim("boss")
    assert (result.kind, result.sender, result.room, result.in_reply_to, result.hops) == (
        "result",
        "reader",
        f"task:{given.id}",
        given.id,
        3,
    )
    assert result.content == Content(
        "done", {"task": given.id, "state": "completed", "error": None, "result": {"pages": 3}}
    )


@pytest.mark.parametrize("state", ["failed", "rejected"])
async def test_a_task_that_did_not_work_tells_why_and_has_no_result(world: World, state: str) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    (got,) = await world.claim("reader")
    outcome = TaskOutcome(given.id, state, error="no such page")  # type: ignore[arg-type]
    await world.store("reader").commit(Turn(delivery=got.delivery, attempt=1, outcome=outcome))
    (ended,) = await world.store("boss").get_tasks([given.id])
    assert (ended.state, ended.error, ended.result) == (state, "no such page", None)
    (result,) = await world.claim("boss")
    assert result.content.data["state"] == state and result.content.data["error"] == "no such page"


async def test_a_stale_attempt_changes_nothing(world: World) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    (first,) = await world.claim("reader")
    await world.ledger.release([first.delivery], crashed=True)
    (second,) = await world.claim("reader")
    assert (second.delivery, second.attempt, second.crashes) == (first.delivery, 2, 1)
    late = Turn(
        delivery=first.delivery, attempt=1, memories=(memory("late"),), outcome=done(given.id, "late")
    )
    assert await world.store("reader").commit(late) == Committed("stale")
    assert await world.store("reader").count_memories() == 0
    in_time = Turn(delivery=second.delivery, attempt=2, outcome=done(given.id, "in time"))
    assert (await world.another_store("reader").commit(in_time)).status == "committed"
    (ended,) = await world.store("boss").get_tasks([given.id])
    assert ended.result is not None and ended.result.text == "in time"
    assert await world.claim_texts("boss") == ["in time"]


async def test_a_task_may_end_in_a_later_turn(world: World) -> None:
    """The child delegates on, and answers when that result comes in."""
    plans = (plan("boss", permissions=CONTROL), plan("reader", parent="boss", permissions=CONTROL))
    await world.provision(*plans, plan("helper", parent="reader"))
    outer = task("reader")
    await world.store("boss").delegate([outer])
    (got,) = await world.claim("reader")
    inner = task("helper", parent_task=outer.id)
    await world.store("reader").delegate([inner])
    await world.store("reader").commit(Turn(delivery=got.delivery, attempt=1))
    assert (await world.store("boss").get_tasks([outer.id]))[0].state == "working"
    (helped,) = await world.claim("helper")
    await world.store("helper").commit(Turn(delivery=helped.delivery, attempt=1, outcome=done(inner.id)))
    (result,) = await world.claim("reader")
    turn = Turn(delivery=result.delivery, attempt=result.attempt, outcome=done(outer.id, "both"))
    assert await world.store("reader").commit(turn) == Committed("committed", ("boss",))
    assert await world.claim_texts("boss") == ["both"]
    assert [t.id for t in await world.ledger.subtasks(outer.id)] == [inner.id]


async def test_a_task_has_one_terminal_state(world: World) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery, attempt=1, outcome=done(given.id)))
    again = Turn(delivery=None, attempt=1, outcome=TaskOutcome(given.id, "failed", error="changed my mind"))
    await world.store("reader").commit(again)
    (ended,) = await world.store("boss").get_tasks([given.id])
    assert (ended.state, ended.error) == ("completed", None)
    assert await world.claim_texts("boss") == ["done"]


async def test_nobody_ends_anothers_task(world: World) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    await world.claim("reader")
    for other in ("writer", "stranger", "boss"):
        await world.store(other).commit(Turn(delivery=None, attempt=1, outcome=done(given.id)))
    assert (await world.store("boss").get_tasks([given.id]))[0].state == "working"


@pytest.mark.parametrize(
    ("sender", "child"),
    [
        ("boss", "stranger"),  # not its child
        ("stranger", "reader"),
        ("reader", "writer"),  # a sister
        ("reader", "boss"),  # its parent
        ("boss", "boss"),
    ],
)
async def test_only_a_parent_delegates_and_only_to_its_child(world: World, sender: str, child: str) -> None:
    given = task(child)
    with pytest.raises(NoAuthority, match="No authority over this agent"):
        await world.store(sender).delegate([given])
    assert await world.ledger.task(given.id) is None
    assert await world.ledger.waiting() == {}


async def test_a_parent_without_the_right_to_control_delegates_nothing(world: World) -> None:
    await world.provision(plan("boss"), plan("reader", parent="boss"))
    with pytest.raises(NoAuthority):
        await world.store("boss").delegate([task("reader")])


async def test_an_unknown_child_is_named_with_near_names(world: World) -> None:
    for unknown in ("raeder", "operator"):
        with pytest.raises(UnknownChild):
            await world.store("boss").delegate([task(unknown)])
    with pytest.raises(UnknownChild) as error:
        await world.store("boss").delegate([task("raeder")])
    assert error.value.hint == "did you mean reader?"


async def test_tasks_are_accepted_all_or_none(world: World) -> None:
    good = task("reader")
    with pytest.raises(NoAuthority):
        await world.store("boss").delegate([good, task("stranger")])
    assert await world.ledger.task(good.id) is None
    assert await world.ledger.waiting() == {}


async def test_delegating_again_returns_the_task_as_it_stands(world: World) -> None:
    given = NewTask(id=new_id(), child=string_to_uuid("reader"), goal="read it")
    await world.store("boss").delegate([given])
    await world.claim("reader")
    (again,) = await world.store("boss").delegate([given])
    assert (again.state, again.attempts) == ("working", 1)
    assert await world.ledger.waiting() == {}
    with pytest.raises(StoreError, match="taken"):
        await world.ledger.delegate("operator", [given])


async def test_a_parent_task_must_be_in_hand(world: World) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    for above in (given.id, new_id()):
        with pytest.raises(NoAuthority, match="not in your hands"):
            await world.store("boss").delegate([task("writer", parent_task=above)])


async def test_the_operator_is_over_everyone_and_gets_no_mail(world: World) -> None:
    given = task("stranger")
    (accepted,) = await world.ledger.delegate("operator", [given])
    assert (accepted.parent, accepted.state) == ("operator", "submitted")
    (got,) = await world.claim("stranger")
    turn = Turn(delivery=got.delivery, attempt=1, outcome=done(given.id))
    assert await world.store("stranger").commit(turn) == Committed("committed")
    assert await world.ledger.waiting() == {}
    ended = await world.ledger.task(given.id)
    assert ended is not None and ended.state == "completed"


async def test_the_coordinator_delegates_with_the_senders_authority(world: World) -> None:
    with pytest.raises(NoAuthority):
        await world.ledger.delegate("stranger", [task("reader")])
    with pytest.raises(UnknownAgent):
        await world.ledger.delegate("nobody", [task("reader")])
    (accepted,) = await world.ledger.delegate("boss", [task("reader")])
    assert accepted.parent == "boss"


async def test_tasks_of_others_are_not_shown(world: World) -> None:
    first, second = task("reader"), task("writer")
    await world.store("boss").delegate([first, second])
    assert [t.id for t in await world.store("boss").get_tasks([second.id, new_id(), first.id])] == [
        second.id,
        first.id,
    ]
    assert [t.id for t in await world.store("reader").get_tasks([second.id, first.id])] == [first.id]
    assert await world.store("stranger").get_tasks([first.id, second.id]) == []
    assert [t.id for t in await world.ledger.tasks(limit=1)] == [second.id]


async def test_a_task_past_its_deadline_fails_and_its_parent_is_told(world: World) -> None:
    late, in_time = task("reader", deadline=now() - 1), task("reader", deadline=now() + 60_000)
    await world.store("boss").delegate([late, in_time])
    assert [d.id for d in await world.claim("reader")] == [in_time.id], "what is late is not begun"
    (ended,) = await world.ledger.end_overdue()
    assert (ended.id, ended.state, ended.reason, ended.sender, ended.recipient) == (
        late.id,
        "expired",
        "its deadline passed",
        "boss",
        "reader",
    )
    assert await world.ledger.end_overdue() == []
    failed = await world.ledger.task(late.id)
    assert failed is not None and (failed.state, failed.error) == ("failed", "its deadline passed")
    (result,) = await world.claim("boss")
    assert (result.sender, result.kind) == ("coordinator", "result")
    assert result.content.data["state"] == "failed" and result.content.data["task"] == late.id


async def test_a_task_in_hand_is_failed_by_its_deadline_too(world: World) -> None:
    given = task("reader", deadline=now() + 400)
    await world.store("boss").delegate([given])
    (got,) = await world.claim("reader")
    ended: list[Ended] = []
    while not ended:
        ended = await world.ledger.end_overdue()
    assert [e.delivery for e in ended] == [got.delivery]
    turn = Turn(delivery=got.delivery, attempt=1, outcome=done(given.id))
    assert await world.store("reader").commit(turn) == Committed("stale")


async def test_a_task_ends_when_it_has_crashed_as_many_recipients_as_it_may_have_attempts(
    world: World,
) -> None:
    given = task("reader", max_attempts=2)
    await world.store("boss").delegate([given])
    for attempt in (1, 3):
        (got,) = await world.claim("reader")
        assert got.attempt == attempt
        assert await world.ledger.release([got.delivery], crashed=False) == [], (
            "a graceful return is no fault"
        )
        (got,) = await world.claim("reader")
        ended = await world.ledger.release([got.delivery], crashed=True)
    assert [(e.state, e.reason) for e in ended] == [("dead", "crashed its recipient 2 times")]
    assert await world.claim("reader") == []
    (failed,) = await world.store("boss").get_tasks([given.id])
    assert (failed.state, failed.attempts) == ("failed", 4)


async def test_a_task_that_crashes_its_recipient_thrice_fails(world: World) -> None:
    given = task("reader", max_attempts=10)
    await world.store("boss").delegate([given])
    for _ in range(3):
        (got,) = await world.claim("reader")
        ended = await world.ledger.release([got.delivery], crashed=True)
    assert [(e.state, e.reason) for e in ended] == [("dead", "crashed its recipient 3 times")]
    (failed,) = await world.store("boss").get_tasks([given.id])
    assert (failed.state, failed.error) == ("failed", "crashed its recipient 3 times")
    assert [d.kind for d in await world.claim("boss")] == ["result"], "a result, and no notice beside it"


async def test_a_result_that_dies_breeds_no_notice(world: World) -> None:
    given = task("reader")
    await world.store("boss").delegate([given])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery, attempt=1, outcome=done(given.id)))
    for _ in range(3):
        (result,) = await world.claim("boss")
        ended = await world.ledger.release([result.delivery], crashed=True)
    assert [e.state for e in ended] == ["dead"]
    assert await world.ledger.waiting() == {}


async def test_authority_is_checked_at_assignment_too(world: World) -> None:
    waiting, begun = task("reader"), task("reader")
    await world.store("boss").delegate([begun])
    await world.claim("reader")
    await world.store("boss").delegate([waiting])
    await world.provision(
        *(plan("boss", permissions=AgentPermissions()) if p.name == "boss" else p for p in FAMILY)
    )
    assert await world.claim("reader") == []
    rejected, working = await world.store("boss").get_tasks([waiting.id, begun.id])
    assert (rejected.state, rejected.error) == ("rejected", "No authority over this agent")
    assert working.state == "working"
