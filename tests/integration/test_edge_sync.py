"""The outbox of an agent at the edge goes to a real swarm over a line that is cut (H10).

The far side is a Postgres server with a provisioned swarm; between it and the agent stands a TCP proxy that
the tests cut. What a sync sees of the network is what is cut there, nothing is stood in for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from swarm.agent.edge import SYNC, edge_runtime
from swarm.agent.syncing import Sync, Upstream, upstream_of
from swarm.components import Message
from swarm.errors import ConfigError
from swarm.ids import new_id, string_to_uuid
from swarm.plugin import Plugin
from swarm.records import Committed, Content, Memory, Turn
from swarm.stores.sqlite import SqliteDatabase
from swarm.stores.sqlite.edge import EdgeBounds, EdgeStore
from swarm.testing import eventually, others_run, say
from tests.contract.store_fixtures import (
    PostgresWorld,
    memory,
    message,
    postgres_server,
    postgres_url,
    postgres_world,
)
from tests.proxy import Proxy

__all__ = ["postgres_server", "postgres_url", "postgres_world"]
READER = string_to_uuid("reader")


@pytest.fixture
async def proxy(postgres_world: PostgresWorld) -> AsyncIterator[Proxy]:
    async with Proxy(postgres_world.url) as line:
        yield line


class Watched:
    """The swarm's store, with a look before each commit: where a test cuts the line."""

    def __init__(self, store: Upstream, look: Callable[[], None]) -> None:
        self._store = store
        self._look = look

    async def init(self) -> None:
        await self._store.init()

    async def commit(self, turn: Turn) -> Committed:
        self._look()
        return await self._store.commit(turn)

    async def close(self) -> None:
        await self._store.close()


def sync_over(store: EdgeStore, url: str, before_commit: Callable[[int], None], **fields: Any) -> Sync:
    """`before_commit` gets the number of each commit that is tried, from 1."""
    connect = upstream_of(url, "reader", deadline=0.5)
    tried = 0

    def look() -> None:
        nonlocal tried
        tried += 1
        before_commit(tried)

    return Sync(store, lambda: Watched(connect(), look), **fields)


def edge_store(folder: Path, **bounds: int) -> EdgeStore:
    return EdgeStore(SqliteDatabase(folder / "agent.db"), "reader", READER, EdgeBounds(**bounds))


async def a_day_offline(store: EdgeStore, turns: int) -> tuple[list[str], list[str]]:
    """`turns` turns, each with two memories and a message; what the swarm must have, in order."""
    for number in range(turns):
        await store.commit(
            Turn(
                delivery=None,
                memories=(
                    memory(f"heard {number}", created_at=1000 + 2 * number),
                    memory(f"said {number}", created_at=1001 + 2 * number),
                ),
                outgoing=(message("boss", f"news {number}"),),
            )
        )
    remembered = [f"{did} {number}" for number in range(turns) for did in ("heard", "said")]
    return remembered, [f"news {number}" for number in range(turns)]


async def test_h10_a_network_cut_twice_in_the_middle_of_a_sync_loses_and_doubles_nothing(
    postgres_world: PostgresWorld, proxy: Proxy, tmp_path: Path
) -> None:
    world = postgres_world
    store = edge_store(tmp_path)
    remembered, told = await a_day_offline(store, 40)

    def cut(number: int) -> None:
        if number == 3:
            proxy.swallow = True  # the third batch arrives and is committed; nobody hears that it was
        elif number == 5:
            proxy.refuse = True  # the fifth never arrives
            proxy.hang_up()

    sync = sync_over(store, proxy.url(world.agent_url("reader")), cut, batch=10)
    assert await sync.sync() == 20
    assert not sync.online and "out of reach" in sync.why
    assert await store.pending() == 100
    assert await world.store("reader").count_memories() > 20 * 2 // 3, "more has arrived than the agent knows"
    proxy.swallow = False
    assert await sync.sync() == 10
    assert await store.pending() == 90 and not sync.online
    proxy.refuse = False
    assert await sync.sync() == 90
    assert (await store.pending(), sync.online, sync.why, sync.sent) == (0, True, "", 120)
    assert [m.content.text for m in await world.store("reader").get_memories(limit=200)] == remembered
    assert await world.claim_texts("boss") == told
    assert await sync.sync() == 0
    await store.close()


async def test_h10_a_process_that_dies_in_the_middle_of_a_sync_sends_the_rest_when_it_is_back(
    postgres_world: PostgresWorld, proxy: Proxy, tmp_path: Path
) -> None:
    world = postgres_world
    store = edge_store(tmp_path)
    remembered, told = await a_day_offline(store, 10)

    def cut(number: int) -> None:
        proxy.swallow = number >= 2

    sync = sync_over(store, proxy.url(world.agent_url("reader")), cut, batch=7)
    task = asyncio.create_task(sync.sync())
    await eventually(lambda: proxy.swallow and proxy.cut)
    task.cancel()
    await asyncio.wait([task])
    await store.close()
    proxy.swallow = False
    again = edge_store(tmp_path)
    assert await again.pending() == 23
    assert await sync_over(again, proxy.url(world.agent_url("reader")), lambda _: None).sync() == 23
    assert [m.content.text for m in await world.store("reader").get_memories(limit=200)] == remembered
    assert await world.claim_texts("boss") == told
    await again.close()


async def test_h10_the_swarms_side_stands_where_both_have_changed(
    postgres_world: PostgresWorld, tmp_path: Path
) -> None:
    """The conflict rule: what the swarm has stays, what it lacks is added after it; deletions are not synced."""
    world = postgres_world
    store = edge_store(tmp_path, max_memories=2)
    twice = new_id()
    await store.create_memory(_made(twice, "made here"))
    await store.create_memory(memory("only here", created_at=2000))
    await store.create_memory(memory("later here", created_at=3000))
    await store.post([message("boss", "from the edge")])
    assert [m.content.text for m in await store.get_memories()] == ["only here", "later here"]  # pruned here
    there = world.store("reader")
    await there.create_memory(_made(twice, "made there"))
    await there.create_memory(memory("only there", created_at=1500))
    await there.post([message("boss", "from the swarm")])
    sync = sync_over(store, world.agent_url("reader"), lambda _: None)
    assert await sync.sync() == 4
    assert [m.content.text for m in await there.get_memories()] == [
        "made there",
        "only there",
        "only here",
        "later here",
    ]
    assert await world.claim_texts("boss") == ["from the swarm", "from the edge"]
    assert [m.content.text for m in await store.get_memories()] == ["only here", "later here"]
    await store.close()


async def test_h10_an_address_that_is_gone_holds_nothing_up_and_both_sides_know(
    postgres_world: PostgresWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = postgres_world
    store = edge_store(tmp_path)
    await store.post([message("boss", "1"), message("who-is-that", "lost"), message("boss", "2")])
    assert await sync_over(store, world.agent_url("reader"), lambda _: None).sync() == 3
    assert await world.claim_texts("boss") == ["1", "2"]
    (notice,) = await world.claim("reader")
    assert notice.kind == "notice" and notice.content.data["recipient"] == "who-is-that"
    rows = await store._database.run(lambda c: c.execute("select address, reason from messages").fetchall())
    assert [row["address"] for row in rows] == ["who-is-that"] and "nobody to give it to" in rows[0]["reason"]
    assert "who-is-that is dead" in caplog.text
    await store.close()


async def test_h10_a_swarm_that_refuses_the_agent_loses_nothing_and_is_said_once(
    postgres_world: PostgresWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = postgres_world
    store = edge_store(tmp_path)
    await store.post([message("boss", "kept")])
    wrong = world.agent_url("reader").replace("password", "parole", 1)
    sync = sync_over(store, wrong, lambda _: None)
    with caplog.at_level(logging.INFO):
        assert [await sync.sync() for _ in range(3)] == [0, 0, 0]
    assert caplog.text.count("refuses this login") == 1
    assert "parole" not in caplog.text
    assert await store.pending() == 1 and "refuses this login" in sync.why
    await store.close()


async def test_h10_an_entry_that_the_swarm_can_never_take_goes_aside_and_the_others_on(
    postgres_world: PostgresWorld, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing gets into the outbox that would be refused for itself, so this one is put there by hand."""
    world = postgres_world
    store = edge_store(tmp_path)
    await store.post([message("boss", "1"), message("boss", "2"), message("boss", "3")])
    await store._database.run(
        lambda c: (
            c.execute("update outbox set entry = json_set(entry, '$.kind', 'task') where seq = 2").rowcount
        ),
        write=True,
    )
    assert await sync_over(store, world.agent_url("reader"), lambda _: None).sync() == 3
    assert await world.claim_texts("boss") == ["1", "3"]
    assert "never taken by the swarm" in caplog.text
    await store.close()


class Ticks:
    """A clock whose waits end when the test says so."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.waiting: list[asyncio.Event] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        wait = asyncio.Event()
        self.waiting.append(wait)
        try:
            await wait.wait()
        finally:
            self.waiting.remove(wait)

    def tick(self) -> None:
        for wait in self.waiting:
            wait.set()


def teller() -> Plugin:
    plugin = Plugin("teller")

    @plugin.action("REPORT")
    async def report(message: Message, runtime: Any) -> str:
        """Reports to the boss."""
        await runtime.peers.tell("boss", message.text)
        return "reported"

    return plugin


async def test_h10_an_agent_tells_offline_and_its_timer_sends_it_every_60_s_once_it_is_online(
    postgres_world: PostgresWorld, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, ticks = postgres_world, Ticks()
    monkeypatch.chdir(tmp_path)
    proxy.refuse = True
    monkeypatch.setattr("swarm.agent.syncing.DEADLINE", 0.5)
    runtime = edge_runtime(
        {"name": "reader", "bio": "x", "id": READER},
        plugins=[teller()],
        settings={"SYNC_URL": proxy.url(world.agent_url("reader"))},
        sleep=ticks.sleep,
    )
    await runtime.initialize()
    assert (tmp_path / "agent.db").exists()
    await eventually(lambda: ticks.waiting)
    assert ticks.slept == [60.0]
    for number in range(3):
        result = await say(runtime, f"report: {number}")
        assert result.response is not None and result.response.text == "reported"
    service: Any = runtime.get_service(SYNC)
    ticks.tick()
    await eventually(lambda: len(ticks.slept) == 2)
    assert service.sync.online is False and await runtime.store.pending() == 9  # type: ignore[attr-defined]
    proxy.refuse = False
    ticks.tick()
    await eventually(lambda: len(ticks.slept) == 3)
    assert service.sync.online is True
    assert await world.claim_texts("boss") == [f"report: {n}" for n in range(3)]
    assert len(await world.store("reader").get_memories()) == 6
    await runtime.stop()
    assert ticks.waiting == [], "the timer is cancelled"
    ticks.tick()
    await others_run(5)
    assert ticks.slept == [60.0] * 3


async def test_h10_syncs_do_not_overlap_whoever_starts_them(
    postgres_world: PostgresWorld, proxy: Proxy, tmp_path: Path
) -> None:
    world, ticks = postgres_world, Ticks()
    store = edge_store(tmp_path)
    await a_day_offline(store, 20)
    at_once = most = 0

    class Counting(Watched):
        async def commit(self, turn: Turn) -> Committed:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            try:
                await others_run(3)
                return await super().commit(turn)
            finally:
                at_once -= 1

    connect = upstream_of(proxy.url(world.agent_url("reader")), "reader")
    sync = Sync(store, lambda: Counting(connect(), lambda: None), batch=5, sleep=ticks.sleep)
    timer = asyncio.create_task(sync.run())
    taken = await asyncio.gather(*(sync.sync() for _ in range(4)))
    await eventually(lambda: ticks.waiting)
    timer.cancel()
    await asyncio.wait([timer])
    assert sync.sent == 60 and sorted(taken)[:3] == [0, 0, 0]
    assert most == 1
    assert len(await world.claim_texts("boss")) == 20
    await store.close()


async def test_x7_with_nothing_to_send_nobody_is_asked(tmp_path: Path) -> None:
    asked = 0

    def connect() -> Upstream:
        nonlocal asked
        asked += 1
        raise AssertionError

    store = edge_store(tmp_path)
    assert await Sync(store, connect).sync() == 0
    assert asked == 0
    await store.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nats://127.0.0.1:4222", "begins with 'nats'"),
        ("postgresql://boss:secret@host/db", "does not log in as an agent"),
        ("postgresql://host/db", "does not log in as an agent"),
    ],
)
def test_a_sync_url_that_cannot_be_is_told_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        edge_runtime({"name": "Ada", "bio": "x"}, settings={"SYNC_URL": url})
    assert "secret" not in str(caught.value)


def _made(id: str, text: str) -> Memory:
    return Memory(id=id, room="lobby", entity="somebody", content=Content(text), created_at=1000)
