"""Postgres behind a bad line: cut connections, killed backends, a killed server, few connections, bounded closing."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from deploy.embedded.postgres import EmbeddedPostgres
from swarm.errors import StoreDown, StoreError, Unknown
from swarm.ids import string_to_uuid
from swarm.records import Committed, Turn
from swarm.stores.postgres import PostgresLedger, PostgresStore, agent_url, role_name
from swarm.testing import eventually, others_run
from tests.contract.store_fixtures import PostgresWorld, administrator, memory, message
from tests.proxy import Proxy


async def test_a_connection_cut_after_the_commit_commits_once(postgres_world: PostgresWorld) -> None:
    """The server committed, the answer never came: the store tries again by itself and finds it done."""
    world = postgres_world
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    async with Proxy(world.url) as proxy:
        store = PostgresStore(
            proxy.url(world.agent_url("reader")), world.swarm, "reader", string_to_uuid("reader")
        )
        turn = Turn(delivery=got.delivery, memories=(memory("m"),), outgoing=(message("boss"),))
        await store.commit(Turn(delivery=None))  # the connection is open and the statement prepared
        proxy.swallow = True
        writing = asyncio.create_task(store.commit(turn))
        await eventually(lambda: proxy.cut)
        proxy.swallow = False
        assert (await writing).status in ("duplicate", "committed")
        assert await store.commit(turn) == Committed("duplicate")
        assert await store.count_memories() == 1
        await store.close()
    assert await world.ledger.waiting() == {"boss": 1}


async def test_a_write_whose_outcome_nobody_knows_says_so_and_may_be_sent_again(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    async with Proxy(world.url) as proxy:
        store = PostgresStore(
            proxy.url(world.agent_url("boss")), world.swarm, "boss", string_to_uuid("boss"), deadline=1.0
        )
        await store.post([message("writer")])
        proxy.swallow = True
        sent = message("reader")
        with pytest.raises(Unknown) as caught:
            await store.post([sent])
        assert caught.value.id == sent.id
        proxy.swallow = False
        (receipt,) = await store.post([sent])
        assert receipt.recipients == ("reader",)
        await store.close()
    assert await world.ledger.waiting() == {"reader": 1, "writer": 1}


async def test_a_claim_whose_answer_is_lost_says_so_and_is_not_silently_made_again(
    postgres_world: PostgresWorld,
) -> None:
    """A second claim no longer finds what the first took: it would be out, and nobody would know (battery, seed 7)."""
    world = postgres_world
    async with Proxy(world.url) as proxy:
        ledger = PostgresLedger(proxy.url(world.url), world.swarm)
        ledger.epoch = world.ledger.epoch
        assert await ledger.claim({"reader": 1}) == []  # the connection is open and the statement prepared
        await world.store("boss").post([message("reader")])
        proxy.swallow = True
        with pytest.raises(Unknown):
            await ledger.claim({"reader": 1})
        proxy.swallow = False
        assert await world.ledger.dispatched() == {"reader": 1}
        assert await ledger.release_all_but("reader", []) == 1
        assert len(await ledger.claim({"reader": 1})) == 1
        await ledger.close()


async def test_a_write_that_never_reached_the_server_is_known_not_to_have(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    async with Proxy(world.url) as proxy:
        proxy.refuse = True
        store = PostgresStore(
            proxy.url(world.agent_url("boss")), world.swarm, "boss", string_to_uuid("boss"), deadline=0.5
        )
        with pytest.raises(StoreDown):
            await store.post([message("reader")])
        with pytest.raises(StoreDown):
            await store.ping()
        proxy.refuse = False
        await store.ping()
        await store.close()


async def test_killing_the_backend_in_the_middle_of_a_commit_loses_and_doubles_nothing(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    async with administrator(world) as admin:
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute("select from deliveries where seq = $1 for update", got.delivery)
        turn = Turn(delivery=got.delivery, memories=(memory("m"),))
        writing = asyncio.create_task(world.store("reader").commit(turn))
        async with administrator(world) as killer:
            statement = (
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'swarm reader' and wait_event_type = 'Lock' and usename = $1"
            )
            while not await killer.fetch(statement, role_name(world.swarm, string_to_uuid("reader"))):
                assert not writing.done()
        await transaction.rollback()
    assert (await writing).status == "committed"
    assert await world.store("reader").count_memories() == 1


async def test_a_random_storm_of_killed_backends_loses_and_doubles_nothing(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    sender, reader = world.store("boss"), world.store("reader")
    stopped = asyncio.Event()

    async def kill() -> None:
        async with administrator(world) as admin:
            for _ in range(150):  # a bound, because on a busy machine no call ever outlived the kills
                if stopped.is_set():
                    break
                await admin.execute(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where usename like $1 || '.%' and random() < 0.5",
                    world.swarm,
                )
                seen = len(done)  # faster than connections are made, nothing would ever be done
                await eventually(lambda seen=seen: stopped.is_set() or len(done) > seen, seconds=30)

    async def work() -> None:
        for number in range(40):
            sent = message("reader", str(number))
            for _ in range(2):
                try:
                    await sender.post([sent])
                except Unknown:
                    await sender.post([sent])
        while len(done) < 40:
            for got in await world.claim("reader", 5):
                turn = Turn(
                    delivery=got.delivery, memories=(memory(got.content.text),), outgoing=(message("writer"),)
                )
                try:
                    committed = await reader.commit(turn)
                except Unknown:
                    committed = await reader.commit(turn)
                assert committed.status in ("committed", "duplicate")
                done.append(got.content.text)
        stopped.set()

    done: list[str] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        group.create_task(work())
    assert done == [str(n) for n in range(40)]
    assert sorted(m.content.text for m in await reader.get_memories(limit=100)) == sorted(done)
    assert await world.ledger.waiting() == {"writer": 40}


# ── the server goes and comes ─────────────────────────────────────────────────────────────────────


async def test_a_killed_server_is_waited_for_and_nothing_accepted_is_lost(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path / "pg")
    await server.start()
    world = PostgresWorld(server.url)
    try:
        await world.begin()
        store = world.store("boss")
        await store.post([message("reader", "before")])
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        writing = asyncio.create_task(store.post([message("reader", "during")]))
        await server.stop()
        await server.start()
        assert (await writing)[0].recipients == ("reader",)
        assert (await store.post([message("reader", "after")]))[0].recipients == ("reader",)
        assert await world.claim_texts("reader") == ["before", "during", "after"]
    finally:
        await world.end()
        await server.stop()


async def test_nothing_listens_is_said_at_once_and_in_words() -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/postgres"
    store = PostgresStore(url, "s", "reader", string_to_uuid("reader"), deadline=0.3)
    for call in (store.init(), store.ping(), store.post([message("boss")])):
        with pytest.raises(StoreDown, match="does not answer") as caught:
            await call
        assert "secret" not in repr(caught.value)
    await store.close()
    ledger = PostgresLedger(url, "s", deadline=0.3)
    with pytest.raises(StoreDown, match="does not answer"):
        await ledger.init()
    assert "secret" not in repr(store) + repr(ledger) + repr(store.__dict__)


async def test_a_wrong_password_is_no_reason_to_wait(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    url = agent_url(world.url, world.swarm, string_to_uuid("reader"), "wrong")
    store = PostgresStore(url, world.swarm, "reader", string_to_uuid("reader"))
    began = time.monotonic()
    with pytest.raises(StoreError, match="refuses this login"):
        await store.init()
    assert time.monotonic() - began < 5
    await store.close()


async def test_an_agent_may_not_use_anothers_url(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    for url in (world.agent_url("writer"), world.url):
        store = PostgresStore(url, world.swarm, "reader", string_to_uuid("reader"))
        with pytest.raises(StoreError, match="does not log in as reader"):
            await store.init()
        await store.close()


async def test_a_database_without_the_schema_says_what_to_do(postgres_url: str) -> None:
    ledger = PostgresLedger(postgres_url, "never_made")
    with pytest.raises(StoreError, match="start the swarm once"):
        await ledger.agents()
    await ledger.close()


async def test_connections_are_few_and_none_before_the_first_call(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    store = PostgresStore(world.agent_url("boss"), world.swarm, "boss", string_to_uuid("boss"))

    async def open_connections() -> int:
        async with administrator(world) as admin:
            return int(
                await admin.fetchval(
                    "select count(*) from pg_stat_activity where usename = $1",
                    role_name(world.swarm, string_to_uuid("boss")),
                )
            )

    assert await open_connections() == 0
    await asyncio.gather(*(store.post([message("reader")]) for _ in range(50)))
    assert 1 <= await open_connections() <= 2
    await store.close()
    async with asyncio.timeout(5):
        while await open_connections():
            pass


async def test_closing_does_not_wait_for_a_statement_that_hangs(postgres_world: PostgresWorld) -> None:
    world = postgres_world
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    async with administrator(world) as admin, admin.transaction():
        await admin.execute("select from deliveries where seq = $1 for update", got.delivery)
        store = PostgresStore(
            world.agent_url("reader"), world.swarm, "reader", string_to_uuid("reader"), deadline=0.5
        )
        with pytest.raises(Unknown):
            await store.commit(Turn(delivery=got.delivery))
        hanging = asyncio.create_task(store.commit(Turn(delivery=got.delivery)))
        await others_run()
        began = time.monotonic()
        await store.close()
        assert time.monotonic() - began < 7
        with pytest.raises(StoreError):
            await hanging
    # The first try may have gone through when the lock went: that is what Unknown says.
    done = await world.store("reader").commit(Turn(delivery=got.delivery))
    assert done.status in ("committed", "duplicate")
