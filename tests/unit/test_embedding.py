"""The worker that gives memories their embeddings: durable, bounded, and out of everybody's way (X4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swarm.agent.models.types import EMBEDDING, EmbeddingReply, EmbeddingRequest
from swarm.agent.runtime import AgentRuntime
from swarm.errors import ModelError
from swarm.ids import new_id
from swarm.plugin import ModelHandler, Plugin
from swarm.records import Content, Memory
from swarm.stores.memory import MemoryDatabase, MemoryStore
from swarm.testing import agent, eventually

AXES = ("fruit", "animal", "stone")
WORDS = {"apple": 0, "pear": 0, "cat": 1, "dog": 1, "granite": 2}


def vector(text: str) -> tuple[float, ...]:
    axes = {WORDS[word] for word in text.split() if word in WORDS}
    return tuple(1.0 if at in axes else 0.01 for at in range(len(AXES)))


class Model:
    """Knows what some words mean. `fails` decides which requests it refuses."""

    def __init__(self, name: str = "axes-1") -> None:
        self.name = name
        self.asked: list[EmbeddingRequest] = []
        self.fails: Callable[[EmbeddingRequest], bool] = lambda _: False

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        self.asked.append(request)
        if self.fails(request):
            raise ModelError("The endpoint is away.", reason="away")
        return EmbeddingReply(tuple(map(vector, request.texts)), model=self.name)

    def plugin(self) -> Plugin:
        return Plugin("axes", models=[ModelHandler(EMBEDDING, self.embed, "axes", 100)])


def fact(text: str, kind: str = "fact") -> Memory:
    return Memory(id=new_id(), room="r", entity="e", content=Content(text), kind=kind)


async def none_due(runtime: AgentRuntime) -> None:
    async def condition() -> bool:
        return not await runtime.store.embeddings_due(1, kinds=["fact"])

    await eventually(condition, what="an embedding for every fact")


def store_of(database: MemoryDatabase) -> MemoryStore:
    if "ada" not in database.names:
        database.add_agent("ada", "00000000-0000-4000-8000-00000000ada0")
    return database.store("ada")


async def test_x4_what_is_remembered_is_found_by_its_meaning() -> None:
    model = Model()
    async with agent("ada", model.plugin()) as runtime:
        await runtime.remember("a cat")
        await runtime.remember("an apple")
        await none_due(runtime)
        found = await runtime.search_memories("pear")
        assert found[0].memory.content.text == "an apple"
        assert [r.purpose for r in model.asked][-1] == "query"


async def test_x4_what_a_crash_left_is_embedded_at_the_next_start_in_bounded_batches() -> None:
    database = MemoryDatabase()
    before = store_of(database)
    for number in range(75):
        await before.create_memory(fact(f"apple {number}"))
    model = Model()
    async with agent("ada", model.plugin(), adapter=store_of(database)) as runtime:
        await none_due(runtime)
    assert [len(r.texts) for r in model.asked] == [32, 32, 11]


async def test_x4_an_idle_agent_asks_neither_the_model_nor_the_store() -> None:
    database = MemoryDatabase()
    store = store_of(database)
    asked = 0
    due = store.embeddings_due

    async def counted(*args: Any, **given: Any) -> list[Memory]:
        nonlocal asked
        asked += 1
        return await due(*args, **given)

    store.embeddings_due = counted  # type: ignore[method-assign]
    model = Model()
    async with agent("ada", model.plugin(), adapter=store) as runtime:
        await eventually(lambda: asked == 1 and not runtime.embeddings._running)
        await runtime.remember("said in passing", kind="message")
        assert not runtime.embeddings._running, "a message is not embedded, so nothing wakes for it"
        assert (asked, model.asked) == (1, [])


async def test_x4_one_text_that_the_model_refuses_does_not_keep_the_others_waiting() -> None:
    database = MemoryDatabase()
    before = store_of(database)
    for text in ["apple", "poison", *["cat"] * 40]:
        await before.create_memory(fact(text))
    model = Model()
    model.fails = lambda request: "poison" in request.texts
    async with agent("ada", model.plugin(), adapter=store_of(database)) as runtime:

        async def all_but_one() -> bool:
            return [m.content.text for m in await before.embeddings_due(99)] == ["poison"]

        await eventually(all_but_one)
        assert runtime.is_initialized


async def test_x4_while_the_model_is_away_memories_wait_and_search_goes_by_words() -> None:
    model = Model()
    model.fails = lambda _: True
    async with agent("ada", model.plugin()) as runtime:
        for _ in range(5):
            await runtime.remember("an apple")
        await eventually(lambda: not runtime.embeddings._running)
        assert [f.memory.content.text for f in await runtime.search_memories("apple", limit=1)] == [
            "an apple"
        ]
        assert len(await runtime.store.embeddings_due(9)) == 5
        model.fails = lambda _: False
        await runtime.remember("a pear")
        await none_due(runtime)


async def test_x4_a_reply_that_does_not_fit_is_not_stored() -> None:
    class Short(Model):
        async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
            self.asked.append(request)
            return EmbeddingReply((), model=self.name)

    model = Short()
    async with agent("ada", model.plugin()) as runtime:
        await runtime.remember("an apple")
        await eventually(lambda: model.asked and not runtime.embeddings._running)
        assert len(await runtime.store.embeddings_due(9)) == 1


async def test_x4_another_model_makes_everything_due_again() -> None:
    database = MemoryDatabase()
    async with agent("ada", Model("axes-1").plugin(), adapter=store_of(database)) as runtime:
        await runtime.remember("an apple")
        await none_due(runtime)
    async with agent("ada", Model("axes-2").plugin(), adapter=store_of(database)) as runtime:
        assert await runtime.search_memories("pear") == [], "vectors of two models do not compare"

        async def renewed() -> bool:
            return not await runtime.store.embeddings_due(9, model="axes-2")

        await eventually(renewed)
        assert [f.memory.content.text for f in await runtime.search_memories("pear")] == ["an apple"]


async def test_x4_which_kinds_are_embedded_is_a_setting() -> None:
    model = Model()
    character = {"name": "ada", "bio": "x", "settings": {"embeddedKinds": ["message"]}}
    async with agent(character, model.plugin()) as runtime:
        await runtime.remember("cat", kind="message")
        await runtime.remember("dog")
        await eventually(lambda: [r.texts for r in model.asked] == [("cat",)])


async def test_x4_what_a_plugin_wrote_straight_to_the_store_is_embedded_too() -> None:
    async with agent("ada", Model().plugin()) as runtime:
        await eventually(lambda: not runtime.embeddings._running)
        await runtime.store.create_memory(fact("an apple", kind="passage"))
        await runtime.remember("1 passage", kind="catalogue")

        async def embedded() -> bool:
            return not await runtime.store.embeddings_due(1, kinds=["passage"])

        await eventually(embedded)
