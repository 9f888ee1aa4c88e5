"""Rooms and who takes part in them, on every implementation (X1)."""

from __future__ import annotations

import pytest

from swarm.errors import StoreError
from tests.contract.store_fixtures import ON_EVERY_STORE, World

pytestmark = ON_EVERY_STORE


async def test_x1_who_joins_is_there_and_who_leaves_is_not(world: World) -> None:
    reader, writer = world.store("reader"), world.store("writer")
    await reader.join("lobby")
    await writer.join("lobby")
    await reader.join("attic")
    assert [(r.id, r.participants, r.direct) for r in await reader.rooms()] == [
        ("attic", ("reader",), False),
        ("lobby", ("reader", "writer"), True),
    ]
    await writer.leave("lobby")
    await writer.leave("never there")
    assert await writer.rooms() == []
    assert [p.name for p in await reader.participants("lobby")] == ["reader"]


async def test_x1_a_room_is_followed_and_muted_and_the_time_of_joining_stays(world: World) -> None:
    reader = world.store("reader")
    await reader.join("lobby")
    (first,) = await reader.rooms()
    assert (first.state, first.joined_at > 0) == ("present", True)
    for state in ("followed", "muted", "present"):
        await reader.join("lobby", state)  # type: ignore[arg-type]
        (now,) = await reader.rooms()
        assert (now.state, now.joined_at) == (state, first.joined_at)
    assert [(p.name, p.state) for p in await reader.participants("lobby")] == [("reader", "present")]


async def test_x1_only_participants_see_participants(world: World) -> None:
    await world.store("boss").join("board")
    await world.store("reader").join("board", "muted")
    assert [(p.name, p.state) for p in await world.store("boss").participants("board")] == [
        ("boss", "present"),
        ("reader", "muted"),
    ]
    assert await world.store("stranger").participants("board") == []
    assert await world.store("stranger").rooms() == []


async def test_x1_a_room_needs_a_name(world: World) -> None:
    for bad in ("", "x" * 201, "\0"):
        with pytest.raises(StoreError):
            await world.store("reader").join(bad)
    assert await world.store("reader").rooms() == []
