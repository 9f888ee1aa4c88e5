"""What is over is forgotten when its time has come, whole or not at all, on every implementation (X8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from swarm.errors import StoreError
from swarm.ids import new_id
from swarm.ledger import LeaseLost
from swarm.records import Content, Dispatch, TaskOutcome, Turn
from swarm.retention import DAY_MS, PARTS, Retention
from tests.contract.store_fixtures import PostgresWorld, World, administrator, memory, message, now, task

SOON = 1 / DAY_MS
"""A millisecond: the ledger itself takes any age."""
ALL = Retention(messages=SOON, announcements=SOON, notices=SOON, dead=SOON, tasks=SOON, memories=SOON)


async def clean(world: World, ages: Retention = ALL, *, most: int = 3) -> dict[str, int]:
    """A whole round in the smallest batches, as the cleaner goes; what went."""
    await asyncio.sleep(0.003)  # the ages are a millisecond, and both clocks count those
    gone: dict[str, int] = {}
    for part in PARTS:
        after = ""
        for _ in range(200):
            batch = await world.ledger.prune(part, ages, after=after, most=most)
            for what, count in batch.gone.items():
                gone[what] = gone.get(what, 0) + count
            after = batch.next
            if not after:
                break
        else:
            raise AssertionError(f"the round through {part} does not end")
    return gone


async def handle(world: World, agent: str, most: int = 100) -> list[Dispatch]:
    got = await world.claim(agent, most)
    for one in got:
        outcome = TaskOutcome(one.id, "completed", Content("done")) if one.kind == "task" else None
        turn = Turn(delivery=one.delivery, attempt=one.attempt, outcome=outcome)
        assert (await world.store(agent).commit(turn)).status == "committed"
    return got


async def known(world: World, ids: Sequence[str]) -> list[bool]:
    return [await world.ledger.message(id) is not None for id in ids]


async def test_what_was_handled_is_forgotten_and_counted_and_what_waits_is_not(world: World) -> None:
    sent = [message("reader", str(n), room=f"r{n}") for n in range(10)]
    await world.store("boss").post(sent)
    await handle(world, "reader", 7)
    assert await clean(world) == {"deliveries.handled": 7}
    assert await known(world, [m.id for m in sent]) == [False] * 7 + [True] * 3
    assert await world.ledger.stats() == {"deliveries.accepted": 3, "pruned.deliveries.handled": 7}
    assert [d.content.text for d in await handle(world, "reader")] == ["7", "8", "9"]
    assert await clean(world) == {"deliveries.handled": 3}
    assert await world.ledger.stats() == {"pruned.deliveries.handled": 10}


async def tally_what_is_there(world: World) -> None:
    """As if it were two minutes old, which the tally waits for."""
    if isinstance(world, PostgresWorld):
        async with administrator(world) as connection:
            await connection.execute("update deliveries set accepted_at = accepted_at - 120000")
    after = "?"
    while after:
        batch = await world.ledger.prune("tally", Retention(), after=after, most=3)
        assert batch.gone == {}
        after = batch.next


async def test_the_counts_are_right_whatever_part_of_the_ledger_the_tally_has_covered(world: World) -> None:
    """Mixed states on both sides of its mark, and what is forgotten there."""
    await world.store("boss").post([message("reader", str(n), room=f"r{n}") for n in range(6)])
    await handle(world, "reader", 4)
    (one,) = await world.claim("reader", 1)
    gave_up = Turn(delivery=one.delivery, attempt=1, dead="a test")
    assert (await world.store("reader").commit(gave_up)).status == "committed"
    counts = {"deliveries.handled": 4, "deliveries.dead": 1, "deliveries.accepted": 2}  # one is the notice
    assert await world.ledger.stats() == counts
    await tally_what_is_there(world)
    assert await world.ledger.stats() == counts
    await world.store("boss").post([message("reader", "young")])
    assert await world.ledger.stats() == counts | {"deliveries.accepted": 3}
    await handle(world, "reader")
    await world.store("boss").delegate([task("writer")])
    await handle(world, "writer")
    await tally_what_is_there(world)
    await world.store("boss").post([message("writer", "younger")])
    for name in ("boss", "writer"):
        await handle(world, name)
    counts = {"deliveries.handled": 10, "deliveries.dead": 1, "tasks.completed": 1}
    assert await world.ledger.stats() == counts
    assert await clean(world) == counts
    assert await world.ledger.stats() == {f"pruned.{what}": n for what, n in counts.items()}


async def test_what_is_younger_than_its_age_stays_and_zero_keeps_for_ever(world: World) -> None:
    await world.store("boss").post([message("reader")])
    await handle(world, "reader")
    assert await clean(world, Retention()) == {}
    never = Retention(messages=0, announcements=0, notices=0, dead=0, tasks=0, memories=0)
    assert await clean(world, never) == {}
    assert await world.ledger.stats() == {"deliveries.handled": 1}


async def test_a_retried_message_is_recognised_until_it_is_forgotten(world: World) -> None:
    sent = message("reader", "once")
    (first,) = await world.store("boss").post([sent])
    await handle(world, "reader")
    await clean(world, Retention())
    assert await world.store("boss").post([sent]) == [first]
    assert await world.claim("reader") == []
    await clean(world)
    assert await world.store("boss").post([sent]) == [first]
    assert [d.content.text for d in await world.claim("reader")] == ["once"]


async def test_a_turn_that_is_committed_again_after_its_delivery_is_forgotten_writes_nothing(
    world: World,
) -> None:
    await world.store("boss").post([message("reader")])
    (got,) = await handle(world, "reader")
    await clean(world)
    again = Turn(delivery=got.delivery, attempt=1, memories=(memory("twice"),), outgoing=(message("boss"),))
    with pytest.raises(StoreError, match="not yours") as refused:
        await world.store("reader").commit(again)
    assert refused.value.reason == "not_yours"
    assert await world.store("reader").count_memories() == 0
    assert await world.claim("boss") == []


async def test_a_conversation_of_which_something_old_waits_is_kept_whole(world: World) -> None:
    boss, reader = world.store("boss"), world.store("reader")
    await boss.post([message("reader", "question", room="plan"), message("reader", "other", room="else")])
    await handle(world, "reader")
    await reader.post([message("boss", "answer", room="plan")])
    await clean(world)
    assert await world.ledger.stats() == {
        "deliveries.accepted": 1, "deliveries.handled": 1, "pruned.deliveries.handled": 1,
    }  # fmt: skip
    await handle(world, "boss")
    assert await clean(world) == {"deliveries.handled": 2}


async def test_two_who_always_talk_are_cleaned_up_after_all_the_same(world: World) -> None:
    await world.store("boss").post([message("reader", "long ago")])
    await handle(world, "reader")
    await asyncio.sleep(0.06)
    await world.store("boss").post([message("reader", "just now")])
    ages = Retention(messages=0.05 / 86_400)
    deadline = now() + 10_000
    while not (gone := (await world.ledger.prune("messages", ages)).gone):
        assert now() < deadline
    assert gone == {"deliveries.handled": 1}
    assert await world.claim_texts("reader") == ["just now"]


async def test_an_announcement_and_its_report_go_at_once_or_stay(world: World) -> None:
    sent = message("all", kind="announce")
    await world.store("boss").post([sent])
    for name in ("reader", "writer"):
        await handle(world, name)
    assert await clean(world) == {}
    view = await world.ledger.message(sent.id)
    assert view is not None and len(view.deliveries) == 3
    await handle(world, "stranger")
    assert await clean(world, Retention(messages=SOON)) == {}
    assert await clean(world, Retention(announcements=SOON)) == {"deliveries.handled": 3}
    assert await known(world, [sent.id]) == [False]


async def test_an_announcement_that_nobody_could_hear_is_forgotten_too(world: World) -> None:
    sent = [message("children", kind="announce"), message("children")]
    await world.store("stranger").post(sent)
    assert await known(world, [m.id for m in sent]) == [True, True]
    assert await clean(world, most=1) == {"unheard": 2}
    assert await known(world, [m.id for m in sent]) == [False, False]


async def test_a_dead_letter_outlives_its_neighbours_and_marks_the_gap(world: World) -> None:
    await world.store("boss").post([message("reader", "1"), message("reader", "2"), message("reader", "3")])
    one, two, three = await world.claim("reader")
    reader = world.store("reader")
    await reader.commit(Turn(delivery=one.delivery))
    await reader.commit(Turn(delivery=two.delivery, dead="it cannot be read"))
    await reader.commit(Turn(delivery=three.delivery))
    await handle(world, "boss")
    short = Retention(messages=SOON, notices=SOON)
    assert await clean(world, short) == {"deliveries.handled": 3}
    view = await world.ledger.message(two.id)
    assert view is not None and view.deliveries[0].reason == "it cannot be read"
    assert await clean(world) == {"deliveries.dead": 1}
    assert (await world.ledger.stats())["pruned.deliveries.dead"] == 1


async def test_a_dead_letter_of_which_nobody_has_told_its_sender_yet_is_kept(world: World) -> None:
    """Found by the ledger's machine: the sender was away longer than the dead letter was kept, and the notice that
    it read at last was about a message that nobody could look up any more."""
    sent = message("reader")
    await world.store("boss").post([sent])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery, dead="it cannot be read"))
    assert await clean(world) == {}
    await handle(world, "boss")
    assert (await clean(world))["deliveries.dead"] == 1


async def test_what_expired_and_what_nobody_got_is_forgotten(world: World) -> None:
    await world.store("boss").post([message("reader", expires_at=now() - 1)])
    await world.ledger.end_overdue()
    turn = Turn(delivery=None, outgoing=(message("nobody-like-this"),))
    assert (await world.store("stranger").commit(turn)).dead
    for name in ("boss", "stranger"):
        await handle(world, name)
    assert await clean(world) == {"deliveries.expired": 1, "deliveries.dead": 1, "deliveries.handled": 2}


# ── tasks ─────────────────────────────────────────────────────────────────────────────────────────
async def test_a_task_is_forgotten_with_its_messages_when_its_result_was_taken(world: World) -> None:
    (given,) = await world.store("boss").delegate([task("reader")])
    await handle(world, "reader")
    assert await clean(world) == {}, "the result waits for its parent"
    await handle(world, "boss")
    assert await clean(world, Retention(messages=SOON)) == {}, "the task's room is the task's"
    assert (await clean(world))["tasks.completed"] == 1
    assert await world.ledger.task(given.id) is None
    assert await known(world, [given.id]) == [False]
    stats = await world.ledger.stats()
    assert stats == {"pruned.tasks.completed": 1, "pruned.deliveries.handled": 2}


async def test_a_tree_of_tasks_is_never_cut(world: World) -> None:
    (root,) = await world.ledger.delegate("operator", [task("boss")])
    (got,) = await world.claim("boss")
    below = [task("reader", parent_task=root.id), task("writer", parent_task=root.id)]
    await world.store("boss").delegate(below)
    await handle(world, "reader")
    done = Turn(delivery=got.delivery, attempt=1, outcome=TaskOutcome(root.id, "completed", Content("all")))
    await world.store("boss").commit(done)
    await handle(world, "boss")
    assert await clean(world) == {}, "the writer is not done"
    assert len(await world.ledger.subtasks(root.id)) == 2
    await handle(world, "writer")
    await handle(world, "boss")
    gone = await clean(world, most=2)
    assert gone["tasks.completed"] == 3
    assert await world.ledger.tasks() == []
    stats = await world.ledger.stats()
    assert stats == {"pruned.tasks.completed": 3, "pruned.deliveries.handled": 5}


async def test_many_old_tasks_that_stay_do_not_hide_those_behind_them(world: World) -> None:
    open_ones = [task("reader", f"stays {n}") for n in range(7)]
    await world.store("boss").delegate(open_ones)
    await world.ledger.delegate("operator", [task("writer", "ends")])
    await handle(world, "writer")
    gone = await clean(world, most=2)
    assert gone["tasks.completed"] == 1
    assert len(await world.ledger.tasks()) == 7


# ── memories ──────────────────────────────────────────────────────────────────────────────────────
async def test_memories_are_kept_unless_it_is_said_and_an_agent_may_have_its_own_age(world: World) -> None:
    for name in ("boss", "reader", "writer"):
        for number in range(5):
            await world.store(name).create_memory(memory(f"{name} {number}"))
    count = world.store("boss").count_memories, world.store("writer").count_memories
    assert await clean(world, Retention(messages=SOON)) == {}
    assert await clean(world, Retention(memories_of={"writer": SOON}), most=2) == {"memories": 5}
    assert [await one() for one in count] == [5, 0]
    assert await clean(world, Retention(memories=SOON, memories_of={"boss": 0}), most=2) == {"memories": 5}
    assert [await one() for one in count] == [5, 0]
    assert (await world.ledger.stats())["pruned.memories"] == 10


async def test_a_forgotten_memory_takes_its_embedding_and_its_place_in_the_room_along(world: World) -> None:
    store = world.store("boss")
    old, new = memory("old", created_at=1_000), memory("new", created_at=now() + 60_000)
    for one in (old, new):
        await store.create_memory(one)
    await store.set_embeddings("m", {old.id: [1.0, 0.0], new.id: [1.0, 0.0]})
    assert await clean(world, Retention(memories=1)) == {"memories": 1}
    assert [m.content.text for m in await store.get_memories(room="lobby")] == ["new"]
    found = await store.search_memories(embedding=[1.0, 0.0], model="m")
    assert [one.memory.content.text for one in found] == ["new"]


# ── who may ───────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("part", PARTS)
async def test_a_deposed_coordinator_forgets_nothing(world: World, part: str) -> None:
    await world.store("boss").post([message("reader")])
    await world.store("boss").create_memory(memory("mine"))
    await world.ledger.delegate("operator", [task("writer")])
    await world.store("stranger").post([message("children", kind="announce")])
    for name in ("reader", "writer"):
        await handle(world, name)
    before = await world.ledger.stats()
    old = world.ledger
    await old.release_lease("test")
    other = world.another_ledger()
    assert await other.take_lease("other", 600.0) == 2
    old.epoch = 1
    await asyncio.sleep(0.003)
    with pytest.raises(LeaseLost):
        await old.prune(part, ALL)  # type: ignore[arg-type]
    assert await other.stats() == before
    if part != "tally":
        assert await _any(lambda: other.prune(part, ALL))  # type: ignore[arg-type]


async def _any(call: Callable[[], Awaitable[object]]) -> bool:
    gone: dict[str, int] = (await call()).gone  # type: ignore[attr-defined]
    return bool(gone)


async def test_ids_that_were_never_there_are_no_place_to_begin(world: World) -> None:
    assert (await world.ledger.prune("messages", ALL, after=str(10**15))).gone == {}
    assert (await world.ledger.prune("tasks", ALL, after=f"0/{new_id()}")).gone == {}
