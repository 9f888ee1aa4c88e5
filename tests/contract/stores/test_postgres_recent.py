"""A room's latest messages, kept by the store that is alone: what its readers see is what the database has."""

from __future__ import annotations

import pytest

from swarm.ids import new_id, string_to_uuid
from swarm.records import Content, Memory, Turn
from swarm.stores.postgres import PostgresStore
from swarm.stores.postgres.recent import MOST_BYTES, SECONDS, Recent
from swarm.testing import VirtualClock
from tests.contract.store_fixtures import PostgresWorld, administrator, plan


def said(text: str, at: int, *, room: str = "lobby", id: str | None = None) -> Memory:
    return Memory(id=id or new_id(), room=room, entity="ada", content=Content(text, {"n": at}), created_at=at)


async def alone(world: PostgresWorld, name: str) -> PostgresStore:
    store = PostgresStore(world.agent_url(name), world.swarm, name, string_to_uuid(name), sole=True)
    await store.init()
    return store


async def texts(store: PostgresStore, limit: int = 32, room: str = "lobby") -> list[str]:
    return [m.content.text for m in await store.get_memories(room=room, kind="message", limit=limit)]


async def test_a_second_look_asks_the_database_nothing_and_sees_what_was_committed_since(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    store = await alone(world, "stranger")
    try:
        await store.commit(Turn(delivery=None, memories=(said("one", 1), said("two", 2))))
        assert await texts(store) == ["one", "two"]
        async with administrator(world) as admin:
            await admin.execute('update memories set content = \'{"text": "changed"}\'')
        await store.commit(Turn(delivery=None, memories=(said("late", 1), said("three", 3))))
        assert await texts(store) == ["one", "late", "two", "three"]
        assert await texts(store, limit=2) == ["two", "three"]
        await store.create_memory(said("four", 4))  # asks again
        assert await texts(store) == ["changed", "late", "changed", "three", "four"]
    finally:
        await store.close()


async def test_what_a_reader_does_to_its_messages_is_not_seen_by_the_next(
    postgres_world: PostgresWorld,
) -> None:
    store = await alone(postgres_world, "stranger")
    try:
        await store.commit(Turn(delivery=None, memories=(said("one", 1),)))
        for _ in range(3):
            (message,) = await store.get_memories(room="lobby", kind="message")
            assert message.content.data == {"n": 1}
            message.content.data.clear()
    finally:
        await store.close()


async def test_an_agent_with_replicas_or_a_parents_memory_keeps_nothing(
    postgres_world: PostgresWorld,
) -> None:
    world = postgres_world
    await world.provision(plan("twin", replicas=2), plan("boss"), plan("child", parent="boss"))
    for name in ("twin", "child"):
        store, other = await alone(world, name), await alone(world, name)
        try:
            assert await texts(store) == []
            await other.commit(Turn(delivery=None, memories=(said("by the other", 1),)))
            assert await texts(store) == ["by the other"]
        finally:
            await store.close()
            await other.close()


# ── what is kept, alone ───────────────────────────────────────────────────────────────────────────


def kept(recent: Recent, *memories: Memory, most: int = 32, room: str = "lobby") -> None:
    recent.fill(room, recent.begin(room, most), memories)


def test_it_is_forgotten_after_some_seconds() -> None:
    clock = VirtualClock()
    recent = Recent(clock)
    kept(recent, said("one", 1))
    clock.advance(SECONDS - 0.1)
    assert recent.find("lobby", 32) is not None
    clock.advance(0.2)
    assert recent.find("lobby", 32) is None


def test_a_read_that_was_overtaken_by_a_write_is_not_kept() -> None:
    recent = Recent()
    reading = recent.begin("lobby", 32)
    recent.wrote([said("meanwhile", 1)])
    recent.fill("lobby", reading, [])
    assert recent.find("lobby", 32) is None


def test_a_write_that_nobody_knows_of_is_asked_for() -> None:
    recent = Recent()
    kept(recent, said("one", 1))
    recent.forget([said("two", 2)])
    assert recent.find("lobby", 32) is None


def test_more_than_is_kept_is_asked_for_unless_there_is_no_more() -> None:
    recent = Recent()
    kept(recent, *(said(str(n), n) for n in range(1, 5)), most=4)
    assert [m.content.text for m in recent.find("lobby", 4) or ()] == ["1", "2", "3", "4"]
    assert recent.find("lobby", 5) is None
    kept(recent, said("all", 1), most=4)
    assert len(recent.find("lobby", 100) or ()) == 1
    recent.wrote([said(str(n), n) for n in range(2, 6)])
    assert recent.find("lobby", 5) is None


def test_the_first_of_an_id_stays() -> None:
    recent, id = Recent(), new_id()
    kept(recent, said("first", 1, id=id))
    recent.wrote([said("second", 2, id=id)])
    assert [m.content.text for m in recent.find("lobby", 32) or ()] == ["first"]


@pytest.mark.parametrize("size", [1000, MOST_BYTES // 3, MOST_BYTES * 2])
def test_what_is_kept_is_bounded_in_bytes(size: int) -> None:
    recent = Recent()
    for n in range(50):
        kept(recent, said("x" * size, 1, room=f"room-{n}"), room=f"room-{n}")
        assert recent._size <= MOST_BYTES
    rooms = [n for n in range(50) if recent.find(f"room-{n}", 32) is not None]
    assert rooms == list(range(50 - len(rooms), 50))
    assert recent._size == sum(one.size for one in recent._rooms.values())
