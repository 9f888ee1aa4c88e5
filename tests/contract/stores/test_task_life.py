"""The life of a task on every implementation: states, cancelling, input, attempts that go again, giving it again.

Row F15, invariants I7 and I9.
"""

from __future__ import annotations

import asyncio
from typing import get_args

import pytest

from bus.errors import Refused
from swarm.errors import IllegalTransition, NoAuthority, StoreError, UnknownChild
from swarm.ids import new_id
from swarm.records import (
    TASK_TRANSITIONS,
    AgentPermissions,
    Committed,
    Content,
    Dispatch,
    NewTask,
    Task,
    TaskOutcome,
    TaskState,
    Turn,
)
from swarm.retention import Retention
from swarm.testing import eventually
from tests.contract.store_fixtures import (
    CONTROL,
    FAMILY,
    PostgresWorld,
    World,
    administrator,
    now,
    plan,
    task,
)

STATES = get_args(TaskState)


def done(id: str, text: str = "done") -> TaskOutcome:
    return TaskOutcome(id, "completed", Content(text))


def asks(id: str, question: str = "Which one?") -> TaskOutcome:
    return TaskOutcome(id, "input-required", question=question, schema={"type": "object"}, actions=("READ",))


async def given(world: World, child: str = "reader", by: str = "boss", **fields: object) -> NewTask:
    new = task(child, **fields)
    await world.store(by).delegate([new])
    return new


async def claimed(world: World, child: str = "reader") -> Dispatch:
    """The one task on its way to the child; results pass by."""
    (got,) = [one for one in await world.claim(child) if one.kind == "task"]
    return got


async def turn(world: World, got: Dispatch, outcome: TaskOutcome | None) -> Committed:
    assert got.content.data["task"]
    return await world.store(got.recipient).commit(
        Turn(delivery=got.delivery, attempt=got.attempt, outcome=outcome)
    )


async def state_of(world: World, id: str) -> Task:
    found = await world.ledger.task(id)
    assert found is not None
    return found


async def family_of_three(world: World) -> None:
    """boss over reader over helper."""
    await world.provision(
        plan("boss", permissions=CONTROL),
        plan("reader", parent="boss", permissions=CONTROL),
        plan("helper", parent="reader"),
        plan("stranger", permissions=CONTROL),
    )


# ── the automaton ─────────────────────────────────────────────────────────────────────────────────


async def test_f15_the_database_knows_the_same_automaton_and_refuses_every_other_step(
    postgres_world: PostgresWorld,
) -> None:
    async with administrator(postgres_world) as connection:
        rows = await connection.fetch(
            "select a, b, task_may_become(a, b) as may from unnest($1::text[]) a, unnest($1::text[]) b",
            STATES,
        )
        allowed = {(row["a"], row["b"]) for row in rows if row["may"]}
        assert allowed == {(old, new) for old, after in TASK_TRANSITIONS.items() for new in after}
        new = await given(postgres_world)
        with pytest.raises(Exception, match="is submitted; it cannot become completed"):
            await connection.execute(
                "update tasks set state = 'completed', result = '{}' where id = $1", new.id
            )
        before = await connection.fetchval("select updated_at from tasks where id = $1", new.id)
        await connection.execute("update tasks set updated_at = 5 where id = $1", new.id)
        after = await connection.fetchval("select updated_at from tasks where id = $1", new.id)
        assert after >= before, "the clock of a task only goes forward"


def test_the_memory_refuses_the_same_steps() -> None:
    from swarm.stores.memory.rows import TaskRow

    for old in STATES:
        for new in STATES:
            row = TaskRow("t", "p", "c", "g", {}, 3, 0, 0, state=old)
            if new == old or new in TASK_TRANSITIONS[old]:
                row.become(new, 1)
                continue
            with pytest.raises(IllegalTransition):
                row.become(new, 1)


async def test_times_of_a_task_are_kept(world: World) -> None:
    new = await given(world)
    waiting = await state_of(world, new.id)
    assert (waiting.begun_at, waiting.ended_at) == (None, None)
    got = await claimed(world)
    begun = await state_of(world, new.id)
    assert begun.begun_at is not None and begun.begun_at > waiting.created_at - 1
    await world.store("reader").report(new.id, got.attempt, 10, "a")
    reported = await state_of(world, new.id)
    assert reported.updated_at >= begun.updated_at
    await turn(world, got, done(new.id))
    ended = await state_of(world, new.id)
    assert ended.ended_at is not None and ended.ended_at >= reported.updated_at
    assert ended.begun_at == begun.begun_at


# ── idempotent ids ────────────────────────────────────────────────────────────────────────────────


async def test_f15_the_same_id_is_the_same_task_and_with_another_content_it_is_refused(world: World) -> None:
    new = NewTask(id=new_id(), child="reader", goal="read it", input={"page": 1})
    boss = world.store("boss")
    await boss.delegate([new])
    (again,) = await boss.delegate([NewTask(id=new.id, child="reader", goal="read it", input={"page": 1})])
    assert again.id == new.id
    for other in (
        NewTask(id=new.id, child="writer", goal="read it", input={"page": 1}),
        NewTask(id=new.id, child="reader", goal="eat it", input={"page": 1}),
        NewTask(id=new.id, child="reader", goal="read it", input={"page": 2}),
    ):
        with pytest.raises(StoreError, match="was given before, with another child, goal or input"):
            await boss.delegate([other])
    assert len(await world.ledger.tasks()) == 1


async def test_f15_the_errors_are_the_sources_own_to_the_letter(world: World) -> None:
    with pytest.raises(UnknownChild) as unknown:
        await world.store("boss").delegate([task("raeder")])
    assert str(unknown.value) == unknown.value.text == "Child agent raeder not found"
    assert "reader" in unknown.value.hint
    with pytest.raises(UnknownChild, match=r"^Child agent nobody not found$"):
        await world.ledger.delegate("operator", [task("nobody")])
    with pytest.raises(NoAuthority, match=r"^No authority over this agent$"):
        await world.store("boss").delegate([task("stranger")])


async def test_a_task_that_no_envelope_could_carry_is_refused_with_advice(world: World) -> None:
    with pytest.raises(Refused, match="at most 1,000,000 fit; put them in a file"):
        await world.store("boss").delegate([task("reader", input={"x": "y" * 1_000_000})])


# ── cancelling ────────────────────────────────────────────────────────────────────────────────────


async def test_f15_a_task_that_waits_is_canceled_and_never_begun(world: World) -> None:
    new = await given(world)
    change = await world.store("boss").cancel(new.id, "changed my mind")
    assert (change.task.state, change.task.error) == ("canceled", "canceled by boss: changed my mind")
    assert change.names == ("boss", "reader")
    assert await world.claim("reader") == []
    (result,) = await world.claim("boss")
    assert (result.kind, result.content.data["state"]) == ("result", "canceled")
    again = await world.store("boss").cancel(new.id, "twice")
    assert again.task == change.task, "canceling is idempotent"
    assert await world.claim("boss") == []


async def test_f15_the_commit_of_a_child_whose_task_was_canceled_is_stale(world: World) -> None:
    new = await given(world)
    got = await claimed(world)
    assert await world.ledger.ended_of([got.delivery]) == {}
    await world.ledger.cancel("operator", new.id)
    assert await world.ledger.ended_of([got.delivery, 10**9]) == {got.delivery: "canceled by operator"}
    assert await turn(world, got, done(new.id)) == Committed("stale")
    assert (await state_of(world, new.id)).state == "canceled"
    assert not await world.store("reader").report(new.id, got.attempt, 50, "late")


async def test_a_task_that_has_completed_stays_completed(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), done(new.id))
    assert (await world.store("boss").cancel(new.id)).task.state == "completed"
    assert [one.content.text for one in await world.claim("boss")] == ["done"], "one result, and no other"


async def test_f15_canceling_reaches_the_whole_tree_and_nothing_more_is_delegated_in_it(world: World) -> None:
    await family_of_three(world)
    outer = await given(world)
    got = await claimed(world)
    waiting = await given(world, "helper", "reader", parent_task=outer.id)
    begun = await given(world, "helper", "reader", parent_task=outer.id)
    finished = await given(world, "helper", "reader", parent_task=outer.id)
    helped = {one.id: one for one in await world.claim("helper")}
    await turn(world, helped[finished.id], done(finished.id))
    await world.ledger.release([helped[waiting.id].delivery], crashed=False)
    assert [one.id for one in await world.ledger.task_tree(outer.id)] == [waiting.id, begun.id, finished.id]

    change = await world.store("boss").cancel(outer.id)
    assert change.names == ("boss", "helper", "reader")
    states = {one.id: (one.state, one.error) for one in await world.ledger.task_tree(outer.id)}
    assert states == {
        waiting.id: ("canceled", "the task above it is canceled"),
        begun.id: ("canceled", "the task above it is canceled"),
        finished.id: ("completed", None),
    }
    assert await turn(world, helped[begun.id], done(begun.id)) == Committed("stale")
    assert await turn(world, got, done(outer.id)) == Committed("stale")
    with pytest.raises(Refused, match="is canceled; nothing more is delegated in its course"):
        await world.store("reader").delegate([task("helper", parent_task=outer.id)])


async def test_what_was_delegated_for_a_task_that_failed_is_canceled_and_for_one_that_completed_goes_on(
    world: World,
) -> None:
    await family_of_three(world)
    for state, expected in (("failed", "canceled"), ("completed", "submitted")):
        outer = await given(world)
        got = await claimed(world)
        inner = await given(world, "helper", "reader", parent_task=outer.id)
        await turn(world, got, TaskOutcome(outer.id, state))  # type: ignore[arg-type]
        assert (await state_of(world, inner.id)).state == expected


async def test_i9_only_those_above_may_cancel_answer_or_give_again(world: World) -> None:
    await family_of_three(world)
    outer = await given(world)
    await claimed(world)
    inner = await given(world, "helper", "reader", parent_task=outer.id)
    for other in ("stranger", "helper"):
        for act in (
            world.store(other).cancel(inner.id),
            world.store(other).answer(inner.id, Content("x")),
            world.ledger.retry(other, inner.id),
        ):
            with pytest.raises(NoAuthority, match=r"^No authority over this agent$"):
                await act
    with pytest.raises(NoAuthority):
        await world.store("reader").cancel(outer.id)  # its own task, given by another
    with pytest.raises(Refused, match="There is no task"):
        await world.store("boss").cancel(new_id())
    assert (await world.store("boss").cancel(inner.id)).task.state == "canceled", "it is above the giver"


async def test_canceling_and_completing_at_once_leave_one_terminal_state(world: World) -> None:
    for _ in range(8):
        new = await given(world)
        got = await claimed(world)
        committed, change = await asyncio.gather(
            turn(world, got, done(new.id)), world.ledger.cancel("operator", new.id)
        )
        ended = await state_of(world, new.id)
        assert ended.state == change.task.state
        assert (committed.status, ended.state) in (("committed", "completed"), ("stale", "canceled"))
        assert len(await world.claim("boss")) == 1


# ── input ─────────────────────────────────────────────────────────────────────────────────────────


async def test_f15_a_task_asks_for_input_and_goes_on_with_the_answer(world: World) -> None:
    new = await given(world, input={"page": 1}, deadline=now() + 60_000)
    got = await claimed(world)
    assert await turn(world, got, asks(new.id)) == Committed("committed", ("boss",))
    waiting = await state_of(world, new.id)
    assert waiting.state == "input-required" and waiting.question is not None
    assert (waiting.question.question, waiting.question.schema) == ("Which one?", {"type": "object"})
    (asked,) = await world.claim("boss")
    assert (asked.kind, asked.sender, asked.content.text) == ("result", "reader", "Which one?")
    assert asked.content.data == {
        "task": new.id,
        "state": "input-required",
        "question": "Which one?",
        "schema": {"type": "object"},
    }
    assert await world.claim("reader") == []

    change = await world.store("boss").answer(new.id, Content("the red one", {"colour": "red"}))
    assert (change.task.state, change.names) == ("working", ("reader",))
    again = await claimed(world)
    assert again.id != got.id and again.room == got.room and again.sender == "boss"
    assert (again.attempt, again.crashes, again.expires_at) == (2, 0, got.expires_at)
    assert again.content.text == got.content.text
    assert again.content.data["task"] == new.id and again.content.data["input"] == {"page": 1}
    assert again.content.data["action"] == ["READ"]
    (history,) = again.content.data["inputs"]
    assert history["question"] == "Which one?" and history["answered_by"] == "boss"
    assert history["answer"]["text"] == "the red one" and history["answer"]["data"] == {"colour": "red"}
    assert await turn(world, got, done(new.id, "stale")) == Committed("duplicate")
    await turn(world, again, done(new.id, "red"))
    ended = await state_of(world, new.id)
    assert (ended.state, ended.attempts, ended.failures) == ("completed", 2, 0)


async def test_an_answer_twice_is_one_answer_and_without_a_question_it_is_refused(world: World) -> None:
    new = await given(world)
    with pytest.raises(Refused, match="is submitted; it asks for nothing"):
        await world.store("boss").answer(new.id, Content("early"))
    await turn(world, await claimed(world), asks(new.id))
    await world.store("boss").answer(new.id, Content("red"))
    await world.store("boss").answer(new.id, Content("red"))
    with pytest.raises(Refused, match="is working; it asks for nothing"):
        await world.store("boss").answer(new.id, Content("blue"))
    assert len([one for one in await world.claim("reader") if one.kind == "task"]) == 1


async def test_the_deadline_holds_while_a_task_waits_for_input_and_cancel_reaches_it_too(
    world: World,
) -> None:
    late = await given(world, deadline=now() + 300)
    await turn(world, await claimed(world), asks(late.id))
    other = await given(world)
    await turn(world, await claimed(world), asks(other.id))

    async def failed() -> bool:
        await world.ledger.end_overdue()
        return (await state_of(world, late.id)).state == "failed"

    await eventually(failed)
    assert (await state_of(world, late.id)).error == "its deadline passed"
    assert (await world.store("boss").cancel(other.id)).task.state == "canceled"
    with pytest.raises(Refused, match="is canceled; it asks for nothing"):
        await world.store("boss").answer(other.id, Content("late"))


async def test_a_task_asks_again_with_all_that_it_was_told_but_not_for_ever(world: World) -> None:
    new = await given(world)
    for n in range(32):
        got = await claimed(world)
        told = [one["answer"]["text"] for one in got.content.data.get("inputs", [])]
        assert told == [str(one) for one in range(n)]
        await turn(world, got, asks(new.id, f"{n}?"))
        await world.store("boss").answer(new.id, Content(str(n)))
    await turn(world, await claimed(world), asks(new.id))
    ended = await state_of(world, new.id)
    assert (ended.state, ended.error) == ("failed", "it asked for input 32 times")


async def test_answers_are_bounded(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), asks(new.id))
    with pytest.raises(Refused, match="more than 200,000 bytes; put this one in a file"):
        await world.store("boss").answer(new.id, Content("x" * 200_001))
    assert (await state_of(world, new.id)).state == "input-required"


# ── attempts that go again ────────────────────────────────────────────────────────────────────────


def fails(id: str, retry_ms: int | None = 0) -> TaskOutcome:
    return TaskOutcome(id, "failed", error="the line is dead", retryable=True, retry_ms=retry_ms)


async def woken(world: World) -> list[str]:
    return await eventually(world.ledger.wake_tasks)  # type: ignore[no-any-return]


async def test_f15_a_retryable_failure_goes_again_until_its_attempts_are_spent(world: World) -> None:
    new = await given(world, max_attempts=3)
    first = await claimed(world)
    for failure in (1, 2):
        got = first if failure == 1 else await claimed(world)
        assert got.attempt == failure
        assert await turn(world, got, fails(new.id)) == Committed("committed")
        waiting = await state_of(world, new.id)
        assert (waiting.state, waiting.failures, waiting.error) == ("submitted", failure, "the line is dead")
        assert sorted(await woken(world)) == ["boss", "reader"]
        assert await world.ledger.wake_tasks() == []
    assert await turn(world, first, done(new.id, "from long ago")) == Committed("duplicate")
    last = await claimed(world)
    assert last.attempt == 3
    await turn(world, last, fails(new.id))
    ended = await state_of(world, new.id)
    assert (ended.state, ended.attempts, ended.error) == ("failed", 3, "the line is dead")
    (result,) = await world.claim("boss")
    assert result.content.data["state"] == "failed"


async def test_a_failed_attempt_waits_before_the_next_by_the_databases_clock(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), fails(new.id, None))
    waiting = await state_of(world, new.id)
    assert waiting.wake_at is not None
    assert 800 <= waiting.wake_at - now() <= 1100, "a second before the second attempt"
    assert await world.ledger.wake_tasks() == []
    assert (await world.store("boss").cancel(new.id)).task.state == "canceled"
    assert (await state_of(world, new.id)).wake_at is None


async def test_crashes_and_failures_count_together(world: World) -> None:
    new = await given(world, max_attempts=2)
    got = await claimed(world)
    assert await world.ledger.release([got.delivery], crashed=True) == []
    assert (await state_of(world, new.id)).failures == 1
    await turn(world, await claimed(world), fails(new.id))
    assert (await state_of(world, new.id)).state == "failed"


async def test_a_failure_that_is_final_does_not_go_again(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), TaskOutcome(new.id, "failed", error="no such page"))
    assert (await state_of(world, new.id)).state == "failed"


async def test_i9_an_attempt_goes_again_only_with_authority(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), fails(new.id))
    await world.provision(
        *(plan("boss", permissions=AgentPermissions()) if p.name == "boss" else p for p in FAMILY)
    )
    await woken(world)
    ended = await state_of(world, new.id)
    assert (ended.state, ended.error) == ("rejected", "No authority over this agent")


# ── given again by hand ───────────────────────────────────────────────────────────────────────────


async def test_f15_a_task_is_given_again_by_hand_as_a_new_one_with_todays_authority(world: World) -> None:
    new = await given(world, input={"page": 1}, deadline=now() + 60_000)
    with pytest.raises(Refused, match="is submitted; only one that failed"):
        await world.ledger.retry("operator", new.id)
    await turn(world, await claimed(world), TaskOutcome(new.id, "failed", error="no such page"))
    change = await world.ledger.retry("operator", new.id)
    again = change.task
    assert (again.state, again.parent, again.child, again.retry_of) == (
        "submitted",
        "boss",
        "reader",
        new.id,
    )
    assert (again.goal, again.input, again.attempts) == ("read it", {"page": 1}, 0)
    assert again.deadline is not None and abs(again.deadline - now() - 60_000) < 5_000
    assert (await world.ledger.retry("boss", new.id)).task.id == again.id, "the same call finds the same one"
    await turn(world, await claimed(world), done(again.id))
    assert (await state_of(world, new.id)).state == "failed", "what has ended stays as it ended"
    with pytest.raises(Refused, match="is completed; only one that failed"):
        await world.ledger.retry("boss", again.id)


async def test_giving_again_by_hand_is_bounded_and_checks_authority(world: World) -> None:
    id = (await given(world)).id
    for _ in range(10):
        await world.store("boss").cancel(id)
        id = (await world.ledger.retry("operator", id)).task.id
    await world.store("boss").cancel(id)
    with pytest.raises(Refused, match="has been given again 10 times"):
        await world.ledger.retry("operator", id)
    other = await given(world)
    await world.store("boss").cancel(other.id)
    await world.provision(
        *(plan("boss", permissions=AgentPermissions()) if p.name == "boss" else p for p in FAMILY)
    )
    with pytest.raises(NoAuthority):
        await world.ledger.retry("operator", other.id)


# ── looking ───────────────────────────────────────────────────────────────────────────────────────


async def test_tasks_are_listed_by_state_and_by_agent_without_what_is_large(world: World) -> None:
    await family_of_three(world)
    first, second = await given(world), await given(world, input={"x": "y" * 5000})
    await turn(world, (await world.claim("reader"))[0], done(first.id, "z" * 5000))
    third = await given(world, "helper", "reader")

    async def ids(**wanted: str) -> list[str]:
        return [one.id for one in await world.ledger.tasks(**wanted)]  # type: ignore[arg-type]

    assert await ids() == [third.id, second.id, first.id]
    assert await ids(state="completed") == [first.id]
    assert await ids(agent="helper") == [third.id]
    assert await ids(agent="reader", state="working") == [second.id]
    listed = {one.id: one for one in await world.ledger.tasks()}
    assert listed[second.id].input == {} and listed[first.id].result is None
    whole = await state_of(world, first.id)
    assert whole.result is not None and len(whole.result.text) == 5000


async def test_nothing_of_a_task_with_many_turns_stays_when_it_is_cleaned_away(world: World) -> None:
    new = await given(world)
    await turn(world, await claimed(world), fails(new.id))
    await woken(world)
    await turn(world, await claimed(world), asks(new.id))
    await world.store("boss").answer(new.id, Content("red"))
    await turn(world, await claimed(world), done(new.id))
    for told in await world.claim("boss"):
        await turn_of_word(world, told)

    async def gone() -> bool:
        swept = await world.ledger.prune("tasks", Retention(tasks=1e-9, messages=1e-9, dead=1e-9))
        return bool(swept.gone)

    await eventually(gone)
    stats = await world.ledger.stats()
    assert {name for name in stats if not name.startswith("pruned.")} == set()


async def turn_of_word(world: World, told: Dispatch) -> None:
    assert told.kind == "result"
    await world.store(told.recipient).commit(Turn(delivery=told.delivery, attempt=told.attempt))
