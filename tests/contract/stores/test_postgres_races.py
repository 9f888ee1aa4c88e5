"""Postgres under races: one delivery committed twice, a room from many connections, two ledgers, ten deployers."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from swarm.errors import NoAuthority
from swarm.ids import string_to_uuid
from swarm.ledger import LeaseLost
from swarm.records import Committed, HierarchyLimits, NewChild, Turn
from swarm.testing import others_run
from tests.contract.store_fixtures import FAMILY, PostgresWorld, administrator, memory, message, task


async def test_two_instances_commit_one_delivery_and_exactly_one_does(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    one, two = world.store("reader"), world.another_store("reader")
    await asyncio.gather(one.init(), two.init())
    for _ in range(20):
        await world.store("boss").post([message("reader")])
        (got,) = await world.claim("reader")
        done = await asyncio.gather(
            *(
                s.commit(Turn(delivery=got.delivery, memories=(memory(n),), outgoing=(message("boss"),)))
                for s, n in ((one, "one"), (two, "two"))
            )
        )
        assert sorted(c.status for c in done) == ["committed", "duplicate"]
    assert await one.count_memories() == 20
    assert await world.ledger.waiting() == {"boss": 20}


async def test_the_second_of_two_racing_commits_waits_for_the_first_and_sees_it(
    postgres_world: PostgresWorld,
) -> None:
    """The first holds the row, uncommitted, when the second comes: the race in its narrowest form."""
    world = postgres_world
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    raw = await asyncpg.connect(world.agent_url("reader"), server_settings={"search_path": world.swarm})
    try:
        transaction = raw.transaction()
        await transaction.start()
        row = await raw.fetchrow(
            "select status from commit_turn($1)", f'{{"delivery": {got.delivery}, "attempt": 1}}'
        )
        assert row is not None and row["status"] == "committed"
        second = asyncio.create_task(
            world.store("reader").commit(Turn(delivery=got.delivery, memories=(memory("m"),)))
        )
        async with administrator(world) as admin:
            while not await admin.fetchval("select count(*) from pg_locks where not granted"):
                assert not second.done()
        await transaction.commit()
        assert await second == Committed("duplicate")
        assert await world.store("reader").count_memories() == 0
    finally:
        await raw.close()


async def test_order_holds_when_a_room_is_committed_from_many_connections(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    await world.store("boss").post([message("reader", str(n)) for n in range(30)])
    got = await world.claim("reader")
    stores = [world.another_store("reader") for _ in range(3)]

    async def commit(number: int) -> None:
        turn = Turn(delivery=got[number].delivery, memories=(memory(str(number)),))
        while (done := await stores[number % 3].commit(turn)).status == "out_of_order":
            await others_run()
        assert done.status == "committed"

    async with asyncio.TaskGroup() as group:
        for number in reversed(range(30)):
            group.create_task(commit(number))
    async with administrator(world) as admin:
        # A row's transaction id is in the order of its commit here: each waited for the one before.
        rows = await admin.fetch("select content->>'text' as text from memories order by xmin::text::bigint")
    assert [row["text"] for row in rows] == [str(n) for n in range(30)]


async def test_two_ledgers_never_claim_one_delivery_twice(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    for _ in range(4):
        await world.store("boss").post(
            [message(to) for to in ("reader", "writer", "stranger") for _ in range(25)]
        )
    other = world.another_ledger()
    other.epoch = world.ledger.epoch
    claims = await asyncio.gather(
        *(ledger.claim({"reader": 7, "writer": 7, "stranger": 7}) for ledger in [world.ledger, other] * 15)
    )
    seen = [d.delivery for claim in claims for d in claim]
    assert len(seen) == len(set(seen)) == 300
    for claim in claims:
        assert [d.delivery for d in claim] == sorted(d.delivery for d in claim)


async def test_a_write_that_waits_for_a_successor_is_not_done(postgres_world: PostgresWorld) -> None:
    """The check and the write are one transaction: a takeover in between is not possible."""
    world = postgres_world
    await world.store("boss").post([message("reader")])
    async with administrator(world) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute("update lease set holder = 'successor', epoch = epoch + 1")
        claim = asyncio.create_task(world.claim("reader"))
        async with administrator(world) as watcher:
            while not await watcher.fetchval("select count(*) from pg_locks where not granted"):
                assert not claim.done()
        await transaction.commit()
    with pytest.raises(LeaseLost):
        await claim
    assert await world.ledger.waiting() == {"reader": 1}


async def test_ten_deployers_at_once_make_one_registry(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    before = await world.ledger.agents()
    ledgers = [world.another_ledger() for _ in range(10)]
    passwords = {p.name: world.password(p.name) for p in FAMILY}
    await asyncio.gather(*(ledger.provision(FAMILY, passwords) for ledger in ledgers))
    assert await world.ledger.agents() == before
    await world.store("reader").init()


async def test_f16_ten_at_once_make_one_child_and_never_one_too_many(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    passwords = {p.name: world.password(p.name) for p in FAMILY}
    await world.ledger.provision(FAMILY, passwords, HierarchyLimits(children=5))  # of which two are there

    async def spawn(name: str) -> bool:
        document = {"name": name}
        return await world.ledger.spawn(
            "boss", NewChild(name=name, id=string_to_uuid(name), character=document, version="1")
        )

    assert sorted(await asyncio.gather(*(spawn("one") for _ in range(10)))) == [False] * 9 + [True]
    answers = await asyncio.gather(*(spawn(f"n{n}") for n in range(10)), return_exceptions=True)
    assert sum(answer is True for answer in answers) == 2
    assert all("boss has 5 children" in str(answer) for answer in answers if answer is not True)
    assert len((await world.ledger.family("boss")).children) == 5


async def test_f12_a_delegation_that_waits_for_the_loss_of_its_right_is_refused(
    postgres_world: PostgresWorld,
) -> None:
    """I9: the right is valid when it commits, not when it was asked for."""
    world = postgres_world
    async with administrator(world) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(
            "update agents set granted = granted || '{\"control_children\": false}' where name = 'boss'"
        )
        await admin.execute("select settle_rights()")
        given = asyncio.create_task(world.store("boss").delegate([task("reader")]))
        async with administrator(world) as watcher:
            while not await watcher.fetchval("select count(*) from pg_locks where not granted"):
                assert not given.done()
        await transaction.commit()
    with pytest.raises(NoAuthority):
        await given
    assert await world.ledger.tasks() == []
