"""Writes that are ready at the same time share a transaction, and nothing else: not each other's end."""

from __future__ import annotations

import asyncio

import pytest

from swarm.errors import StoreError, UnknownAgent
from swarm.records import Committed, Turn
from swarm.testing import others_run
from tests.contract.store_fixtures import PostgresWorld, administrator, memory, message


async def test_turns_that_are_ready_together_are_committed_in_fewer_transactions(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    boss, reader = world.store("boss"), world.store("reader")
    for n in range(20):
        await boss.post([message("reader", str(n), room=f"room-{n}")])
    got = await world.claim("reader")
    done = await asyncio.gather(
        *(
            reader.commit(
                Turn(delivery=d.delivery, memories=(memory(d.content.text),), outgoing=(message("boss"),))
            )
            for d in got
        )
    )
    assert done == [Committed("committed", ("boss",))] * 20
    assert await reader.count_memories() == 20
    async with administrator(world) as admin:
        assert await admin.fetchval("select count(distinct xmin::text) from memories") < 10
        # A turn's own parts are in one transaction, whoever shares it: the mark, the memory, the message.
        apart = await admin.fetchval(
            "select count(*) from deliveries d where d.state = 'handled' and not exists ("
            "  select from memories m where m.xmin::text = d.xmin::text and m.content ->> 'text' = "
            "    (select content ->> 'text' from messages s where s.id = d.message))"
        )
        assert apart == 0


async def test_each_turn_of_a_shared_transaction_is_decided_on_its_own(postgres_world: PostgresWorld) -> None:
    """The order gate sees what stands before it in the same transaction; a duplicate changes nothing."""
    world = postgres_world
    boss, reader = world.store("boss"), world.store("reader")
    for n in range(3):
        await boss.post([message("reader", str(n))])
    first, second, third = await world.claim("reader")

    def commit(delivery: int) -> asyncio.Task[Committed]:
        return asyncio.ensure_future(reader.commit(Turn(delivery=delivery, memories=(memory("m"),))))

    tasks = [commit(one) for one in (first.delivery, third.delivery, second.delivery, first.delivery)]
    assert [(await task).status for task in tasks] == ["committed", "out_of_order", "committed", "duplicate"]
    assert (await reader.commit(Turn(delivery=third.delivery))).status == "committed"
    assert await reader.count_memories() == 2


async def test_a_turn_that_is_refused_harms_none_that_shared_its_transaction(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    boss, reader = world.store("boss"), world.store("reader")
    for n in range(4):
        await boss.post([message("reader", str(n), room=f"room-{n}")])
    got = [d.delivery for d in await world.claim("reader")]
    done = await asyncio.gather(
        *(
            reader.commit(Turn(delivery=d, memories=(memory("m"),)))
            for d in (got[0], got[1], 999_999, *got[2:])
        ),
        return_exceptions=True,
    )
    refused = done.pop(2)
    assert isinstance(refused, StoreError) and refused.reason == "not_yours"
    assert done == [Committed("committed")] * 4
    assert await reader.count_memories() == 4


async def test_posts_at_the_same_time_keep_their_order_and_one_to_nobody_fails_alone(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    boss = world.store("boss")
    done = await asyncio.gather(
        *(boss.post([message("nobody" if n == 5 else "reader", str(n))]) for n in range(12)),
        return_exceptions=True,
    )
    assert isinstance(done[5], UnknownAgent)
    assert all(isinstance(one, list) for n, one in enumerate(done) if n != 5)
    assert await world.claim_texts("reader") == [str(n) for n in range(12) if n != 5]


@pytest.mark.parametrize("ended", [0, 1, 2])
async def test_one_that_is_cancelled_leaves_the_way_free_for_the_others(
    postgres_world: PostgresWorld, ended: int
) -> None:
    """Whether it was on its way, next in line, or further behind."""
    boss = postgres_world.store("boss")
    await boss.post([message("reader")])
    tasks = [asyncio.ensure_future(boss.post([message("reader", str(n))])) for n in range(6)]
    await others_run()
    tasks[ended].cancel()
    async with asyncio.timeout(10):
        done = await asyncio.gather(*tasks, return_exceptions=True)
    assert sum(isinstance(one, list) for one in done) >= 5
    (last,) = await boss.post([message("reader", "after")])
    assert last.recipients == ("reader",)
