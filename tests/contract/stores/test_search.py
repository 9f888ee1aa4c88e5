"""Finding what was remembered: by text, by embedding, by both, and only what one may read (X4)."""

from __future__ import annotations

import pytest

from swarm.errors import StoreError
from swarm.ids import new_id
from swarm.records import Content, Memory
from tests.contract.store_fixtures import ON_EVERY_STORE, World, memory

pytestmark = ON_EVERY_STORE


async def found(world: World, agent: str, **query: object) -> list[str]:
    return [f.memory.content.text for f in await world.store(agent).search_memories(**query)]  # type: ignore[arg-type]


async def remember(world: World, agent: str, *texts: str, **rest: object) -> list[Memory]:
    memories = [memory(text, created_at=1000 + at, **rest) for at, text in enumerate(texts)]
    for one in memories:
        await world.store(agent).create_memory(one)
    return memories


async def test_x4_the_text_with_more_of_the_words_comes_first(world: World) -> None:
    await remember(
        world,
        "reader",
        "Paris is the capital of France.",
        "The capital of the company is small.",
        "Lunch is at noon.",
    )
    assert await found(world, "reader", text="capital of FRANCE") == [
        "Paris is the capital of France.",
        "The capital of the company is small.",
    ]
    assert await found(world, "reader", text="capital of france", limit=1) == [
        "Paris is the capital of France."
    ]
    assert await found(world, "reader", text="capital of france", min_score=0.9) == [
        "Paris is the capital of France."
    ]
    assert await found(world, "reader", text="elephants") == []
    assert await found(world, "reader", text="?!") == []


async def test_x4_a_rare_word_counts_more_than_common_ones(world: World) -> None:
    await remember(
        world, "reader", "the cat is on the mat", "is the dog on it", "on the way", "zeppelin", "the is on"
    )
    assert (await found(world, "reader", text="the zeppelin"))[0] == "zeppelin"


@pytest.mark.parametrize(
    ("kept", "asked"),
    [
        ("Ein schönes Café in Zürich", "CAFÉ"),
        ("Öl", "öl"),
        ("see deploy/embedded_nats.py:30", "embedded_nats"),
        ("write to ada@example.org", "example"),
        ("version 3.11 of 2024-05-01", "2024"),
        ("东京是日本的首都", "日本"),
        ("don't panic", "DON'T"),
        ("half-hearted", "hearted"),
    ],
)
async def test_x4_words_are_found_in_any_case_and_script(world: World, kept: str, asked: str) -> None:
    await remember(world, "reader", kept, "another")
    assert await found(world, "reader", text=asked) == [kept]


async def test_x4_of_equals_the_newest_comes_first(world: World) -> None:
    for at in (2, 3, 1):
        await world.store("reader").create_memory(memory("same", room=f"r{at}", created_at=at))
    got = await world.store("reader").search_memories(text="same")
    assert [f.memory.created_at for f in got] == [3, 2, 1]
    assert {f.score for f in got} == {1.0}


async def test_x4_what_lies_nearest_is_found_by_embedding(world: World) -> None:
    reader = world.store("reader")
    north, east, south, bare = await remember(world, "reader", "north", "east", "south", "bare")
    await reader.set_embeddings("m", {north.id: [0, 1.0], east.id: [2, 0], south.id: [0, -1]})
    got = await reader.search_memories(embedding=[1, 3], model="m")
    assert [f.memory for f in got] == [north, east]
    assert got[0].score == pytest.approx(3 / 10**0.5, abs=1e-5)
    assert got[1].score == pytest.approx(1 / 10**0.5, abs=1e-5)
    assert await reader.search_memories(embedding=[1, 3], model="another") == []
    assert await reader.search_memories(embedding=[1, 3, 0], model="m") == [], "another length is no error"
    assert [f.memory for f in await reader.search_memories(embedding=[1, 3], model="m", min_score=0.5)] == [
        north
    ]
    assert bare not in [f.memory for f in got]


async def test_x4_text_and_embedding_serve_together(world: World) -> None:
    reader = world.store("reader")
    both, near, said, _ = await remember(
        world, "reader", "a red apple", "a rosy fruit", "an apple a day", "a stone"
    )
    await reader.set_embeddings("m", {both.id: [1, 0], near.id: [1, 0.1], said.id: [0, 1]})
    got = await reader.search_memories(text="red apple", embedding=[1, 0.05], model="m", min_score=0.3)
    assert got[0].memory == both
    assert {f.memory.id for f in got} == {both.id, near.id, said.id}, "each way finds what the other misses"
    assert got[0].score > got[1].score


async def test_x4_a_new_embedding_takes_the_olds_place(world: World) -> None:
    reader = world.store("reader")
    (one,) = await remember(world, "reader", "one")
    await reader.set_embeddings("old", {one.id: [1, 0]})
    await reader.set_embeddings("new", {one.id.upper(): [0, 1, 0]})
    assert await reader.search_memories(embedding=[1, 0], model="old") == []
    assert [f.score for f in await reader.search_memories(embedding=[0, 2, 0], model="new")] == [1.0]


async def test_x4_a_search_keeps_to_its_room_and_kind(world: World) -> None:
    reader = world.store("reader")
    (lobby,) = await remember(world, "reader", "apple in the lobby")
    (other,) = await remember(world, "reader", "apple elsewhere", room="other")
    (fact,) = await remember(world, "reader", "apple is a fruit", kind="fact")
    await reader.set_embeddings("m", {one.id: [1, 0] for one in (lobby, other, fact)})
    for query in ({"text": "apple"}, {"embedding": [1, 0], "model": "m"}):
        assert await found(world, "reader", **query, room="other") == ["apple elsewhere"]
        assert await found(world, "reader", **query, kind="fact") == ["apple is a fruit"]
        assert await found(world, "reader", **query, kind="fact", room="other") == []
        assert len(await found(world, "reader", **query)) == 3


async def test_x4_nobody_finds_what_it_may_not_read(world: World) -> None:
    (secret,) = await remember(world, "boss", "the secret plan")
    await world.store("boss").set_embeddings("m", {secret.id: [1, 0]})
    for query in ({"text": "secret"}, {"embedding": [1, 0], "model": "m"}):
        assert await found(world, "boss", **query) == ["the secret plan"]
        assert await found(world, "reader", **query) == ["the secret plan"], "a child may, if given the right"
        assert await found(world, "writer", **query) == []
        assert await found(world, "stranger", **query) == []


async def test_x4_nobody_sets_anothers_embeddings(world: World) -> None:
    (one,) = await remember(world, "boss", "one")
    await world.store("reader").set_embeddings("m", {one.id: [1, 0], new_id(): [1, 0]})
    assert await found(world, "boss", embedding=[1, 0], model="m") == []
    assert await found(world, "reader", embedding=[1, 0], model="m") == []
    assert [m.id for m in await world.store("boss").embeddings_due(9)] == [one.id]


async def test_x4_the_queue_holds_what_has_no_embedding_yet(world: World) -> None:
    reader = world.store("reader")
    a, b, c = await remember(world, "reader", "a", "b", "c", kind="fact")
    await remember(world, "reader", "", kind="fact")
    (said,) = await remember(world, "reader", "said")
    await remember(world, "boss", "the boss embeds its own")
    assert await reader.embeddings_due(10) == [a, b, c, said]
    assert await reader.embeddings_due(2) == [a, b]
    assert await reader.embeddings_due(10, kinds=["fact"]) == [a, b, c]
    assert await reader.embeddings_due(10, kinds=["none"]) == []
    await reader.set_embeddings("m", {a.id: [1], c.id: [1]})
    assert await reader.embeddings_due(10, kinds=["fact"]) == [b]
    assert await reader.embeddings_due(10, kinds=["fact"], model="m") == [b]
    assert await reader.embeddings_due(10, kinds=["fact"], model="newer") == [a, b, c], (
        "another model makes all of them due"
    )


async def test_x4_the_queue_outlives_the_process(world: World) -> None:
    (one,) = await remember(world, "reader", "one")
    await world.store("reader").close()
    assert await world.another_store("reader").embeddings_due(1) == [one]


async def test_x4_a_search_that_cannot_mean_anything_is_refused(world: World) -> None:
    reader = world.store("reader")
    with pytest.raises(StoreError, match="needs a text, an embedding, or both"):
        await reader.search_memories()
    with pytest.raises(StoreError, match="needs the model"):
        await reader.search_memories(embedding=[1.0])
    for bad in ([], [0.0, 0.0], [float("nan")], [float("inf")], [1.0] * 10_000):
        with pytest.raises(StoreError, match="no embedding"):
            await reader.search_memories(embedding=bad, model="m")
        with pytest.raises(StoreError, match="no embedding"):
            await reader.set_embeddings("m", {new_id(): bad})
    with pytest.raises(StoreError, match="NUL"):
        await reader.search_memories(text="a\0")
    with pytest.raises(StoreError, match="not an id"):
        await reader.set_embeddings("m", {"x": [1.0]})


async def test_x4_what_is_found_is_not_shared_with_the_store(world: World) -> None:
    kept = Memory(id=new_id(), room="r", entity="e", content=Content("apple", {"list": [1]}))
    await world.store("reader").create_memory(kept)
    (got,) = await world.store("reader").search_memories(text="apple")
    got.memory.content.data["list"].append(2)
    (again,) = await world.store("reader").search_memories(text="apple")
    assert again.memory.content.data == {"list": [1]}
