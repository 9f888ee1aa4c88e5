"""What an agent remembers, what it reads of its parent's, and its own row, on every implementation."""

from __future__ import annotations

from uuid import uuid4

import pytest

from swarm.errors import StoreError
from swarm.ids import new_id, string_to_uuid
from swarm.records import AgentPermissions, Content, Memory, Turn
from tests.contract.store_fixtures import CONTROL, FAMILY, ON_EVERY_STORE, World, memory, plan

pytestmark = ON_EVERY_STORE


async def texts(world: World, agent: str, **query: object) -> list[str]:
    return [m.content.text for m in await world.store(agent).get_memories(**query)]  # type: ignore[arg-type]


async def test_the_latest_come_oldest_first(world: World) -> None:
    for number in range(5):
        await world.store("reader").create_memory(memory(str(number), created_at=1000 + number))
    assert await texts(world, "reader") == ["0", "1", "2", "3", "4"]
    assert await texts(world, "reader", limit=2) == ["3", "4"]


async def test_they_are_found_by_room_and_kind(world: World) -> None:
    reader = world.store("reader")
    await reader.create_memory(memory("a", created_at=1))
    await reader.create_memory(memory("b", room="other", created_at=2))
    await reader.create_memory(memory("c", kind="fact", created_at=3))
    assert await texts(world, "reader", room="lobby") == ["a", "c"]
    assert await texts(world, "reader", kind="fact") == ["c"]
    assert await texts(world, "reader", room="other", kind="fact") == []
    assert await reader.count_memories() == 3
    assert await reader.count_memories(room="lobby") == 2
    assert await reader.count_memories(kind="message") == 2


async def test_a_memory_comes_back_whole(world: World) -> None:
    kept = Memory(
        id=memory("x").id,
        room="lobby",
        entity="boss",
        content=Content("text", {"a": [1, None]}, {"m": True}),
        kind="fact",
        created_at=1234,
    )
    await world.store("reader").create_memory(kept)
    await world.store("reader").create_memory(kept)
    assert await world.store("reader").get_memories() == [kept]


async def test_what_is_read_is_not_shared_with_the_store(world: World) -> None:
    data = {"list": [1]}
    await world.store("reader").create_memory(
        Memory(id=memory("x").id, room="r", entity="e", content=Content("x", data))
    )
    data["list"].append(2)
    (got,) = await world.store("reader").get_memories()
    got.content.data["list"].append(3)
    (again,) = await world.store("reader").get_memories()
    assert again.content.data == {"list": [1]}


async def test_a_child_reads_its_parents_memories_if_it_may_and_nobody_elses(world: World) -> None:
    await world.store("boss").create_memory(memory("the boss's", created_at=1))
    await world.store("reader").create_memory(memory("the reader's", created_at=2))
    assert await texts(world, "reader") == ["the boss's", "the reader's"]
    assert await world.store("reader").count_memories() == 2
    for other in ("writer", "stranger"):
        assert await texts(world, other) == []
        assert await world.store(other).count_memories() == 0
    assert await texts(world, "boss") == ["the boss's"]


async def test_a_right_taken_away_is_gone_at_once(world: World) -> None:
    await world.store("boss").create_memory(memory("the boss's"))
    assert await texts(world, "reader") == ["the boss's"]
    await world.provision(
        *(
            plan("reader", parent="boss", permissions=AgentPermissions(access_parent_memory=False))
            if p.name == "reader"
            else p
            for p in FAMILY
        )
    )
    assert await texts(world, "reader") == []


async def test_an_id_of_anothers_memory_is_free(world: World) -> None:
    first = memory("first")
    await world.store("boss").create_memory(first)
    await world.store("stranger").create_memory(
        Memory(id=first.id, room="r", entity="e", content=Content("mine"))
    )
    assert await texts(world, "stranger") == ["mine"]


async def test_nul_is_refused_before_it_is_sent(world: World) -> None:
    for bad in (memory("a\0"), memory("a", room="\0"), memory("a", kind="\0")):
        with pytest.raises(StoreError, match="NUL"):
            await world.store("reader").create_memory(bad)
        with pytest.raises(StoreError, match="NUL"):
            await world.store("reader").commit(Turn(delivery=None, memories=(bad,)))
    with pytest.raises(StoreError, match="NUL"):
        await world.store("reader").get_memories(room="\0")
    assert await world.store("reader").count_memories() == 0


async def test_the_newest_version_of_a_character_is_found(world: World) -> None:
    id = string_to_uuid("reader")
    assert await world.store("boss").get_character(id) == {"name": "reader"}
    assert await world.store("boss").get_character(string_to_uuid("nobody")) is None

    async def provision(version: str, **more: object) -> None:
        changed = plan("reader", parent="boss", character={"name": "reader", **more}, version=version)
        await world.provision(*(changed if p.name == "reader" else p for p in FAMILY))

    await provision("2", bio="new")
    assert await world.store("boss").get_character(id) == {"name": "reader", "bio": "new"}
    await provision("1")
    assert await world.store("boss").get_character(id) == {"name": "reader"}, (
        "going back makes the old one newest"
    )


async def test_the_directory_knows_who_is_who(world: World) -> None:
    directory = {a.name: a for a in await world.store("stranger").agents()}
    assert list(directory) == ["boss", "reader", "stranger", "writer"]
    assert directory["boss"].permissions == CONTROL
    assert directory["boss"].parent is None
    assert directory["reader"].parent == "boss"
    assert directory["reader"].roles == ("summarise", "read")
    assert directory["reader"].id == string_to_uuid("reader")
    assert directory["reader"].created_at == directory["reader"].updated_at > 0


async def test_an_agent_sets_its_own_status_only(world: World) -> None:
    await world.store("reader").set_status("active")
    assert {a.name: a.status for a in await world.store("boss").agents()} == {
        "boss": "inactive",
        "reader": "active",
        "stranger": "inactive",
        "writer": "inactive",
    }
    await world.store("reader").set_status("inactive")
    assert {a.status for a in await world.store("boss").agents()} == {"inactive"}


async def test_memories_of_one_millisecond_come_back_as_they_were_written(world: World) -> None:
    reader = world.store("reader")
    for number in range(20):
        await reader.create_memory(
            Memory(id=new_id(), room="r", entity="e", content=Content(str(number)), created_at=1000)
        )
    await reader.commit(
        Turn(
            delivery=None,
            memories=tuple(
                Memory(id=str(uuid4()), room="r", entity="e", content=Content(str(number)), created_at=1000)
                for number in range(20, 40)
            ),
        )
    )
    assert [m.content.text for m in await reader.get_memories(room="r", limit=30)] == [
        str(n) for n in range(10, 40)
    ]
