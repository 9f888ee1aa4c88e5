"""The store of an agent at the edge: bounded memory, a bounded outbox, bounded answers, in one file (H7, H9, H10)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.errors import Refused
from swarm.errors import StoreError, UnknownAgent, UnknownChild
from swarm.ids import string_to_uuid
from swarm.records import Memory, Outgoing, Turn
from swarm.stores.sqlite import SqliteDatabase
from swarm.stores.sqlite.edge import EdgeBounds, EdgeStore
from tests.contract.store_fixtures import memory, message, task

ADA = string_to_uuid("ada")
SMALL = EdgeBounds(max_memories=5, outbox_size=6, cache_size=3)


def opened(file: Path, bounds: EdgeBounds = SMALL) -> EdgeStore:
    return EdgeStore(SqliteDatabase(file), "ada", ADA, bounds)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[EdgeStore]:
    made = opened(tmp_path / "agent.db")
    yield made
    await made.close()


async def texts(store: EdgeStore) -> list[str]:
    return [one.content.text for one in await store.get_memories(limit=100)]


async def waiting(store: EdgeStore) -> list[str]:
    return [entry.what.content.text for entry in await store.next_entries(100)]


async def test_h7_of_more_memories_than_it_may_keep_the_oldest_go_whatever_their_kind(
    store: EdgeStore,
) -> None:
    await store.create_memory(memory("fact", kind="fact", created_at=1))
    turn = tuple(memory(f"m{n}", created_at=10 + n) for n in range(4))
    await store.commit(Turn(delivery=None, memories=turn))
    assert await texts(store) == ["fact", "m0", "m1", "m2", "m3"]
    await store.set_embeddings("m", {turn[0].id: [1.0, 0.0]})
    await store.commit(
        Turn(delivery=None, memories=(memory("m4", created_at=20), memory("m5", created_at=21)))
    )
    assert await texts(store) == ["m1", "m2", "m3", "m4", "m5"]
    assert await store.search_memories(text="m0") == []
    assert await store.search_memories(embedding=[1.0, 0.0], model="m") == [], "its embedding went with it"
    assert len(await store.search_memories(text="m5")) == 1


async def test_h7_by_default_it_keeps_a_hundred_memories_and_fifty_answers(tmp_path: Path) -> None:
    store = opened(tmp_path / "agent.db", EdgeBounds())
    for number in range(12):
        await store.commit(
            Turn(
                delivery=None,
                memories=tuple(memory(f"{number}.{n}", created_at=1 + number) for n in range(10)),
            )
        )
        for n in range(6):
            await store.keep_response("r", f"question {number} {n}", "answer")
    assert await store.count_memories() == 100
    assert (await texts(store))[0] == "2.0"
    assert await store.count_responses() == 50
    await store.close()


async def test_h10_messages_and_memories_wait_in_the_order_in_which_they_were_made(tmp_path: Path) -> None:
    store = opened(tmp_path / "agent.db")
    (receipt,) = await store.post([message("boss", "1")])
    assert receipt.recipients == ("boss",)
    done = await store.commit(
        Turn(delivery=None, memories=(memory("2"),), outgoing=(message("all", "3"), message("role:x", "4")))
    )
    assert (done.status, done.recipients) == ("committed", ("all", "role:x"))
    await store.close()
    again = opened(tmp_path / "agent.db")  # what waits outlives the process
    entries = await again.next_entries(100)
    assert [entry.what.content.text for entry in entries] == ["1", "2", "3", "4"]
    assert [type(entry.what) for entry in entries] == [Outgoing, Memory, Outgoing, Outgoing]
    await again.synced(entries[:3])
    assert await waiting(again) == ["4"]
    await again.close()


async def test_h10_an_entry_is_a_copy_which_pruning_does_not_take(store: EdgeStore) -> None:
    await store.create_memory(memory("first", created_at=1))
    for number in range(9):
        await store.create_memory(memory(f"{number}", created_at=2 + number))
    assert "first" not in await texts(store)
    assert (await waiting(store))[0] == "first"


async def test_h10_the_same_again_waits_once(store: EdgeStore) -> None:
    turn = Turn(delivery=None, memories=(memory("m"),), outgoing=(message("boss", "t"),))
    for _ in range(3):
        assert (await store.commit(turn)).status == "committed"
        await store.post(turn.outgoing)
    assert await waiting(store) == ["m", "t"]


async def test_h10_a_full_outbox_refuses_a_message_loudly_and_writes_nothing_of_its_turn(
    store: EdgeStore,
) -> None:
    sent = [message("boss", str(n)) for n in range(6)]
    await store.post(sent)
    with pytest.raises(
        StoreError, match=r"holds 6 entries .* takes no 1 more; bring the agent online"
    ) as caught:
        await store.post([message("boss", "one too many")])
    assert caught.value.reason == "outbox_full"
    with pytest.raises(StoreError, match="outboxSize"):
        await store.resolve("boss")
    with pytest.raises(StoreError):
        await store.commit(Turn(delivery=None, memories=(memory("no"),), outgoing=(message("boss"),)))
    assert await store.count_memories() == 0
    await store.post(sent[:2])  # what waits already is no more
    await store.synced(await store.next_entries(1))
    await store.post([message("boss", "now it fits")])
    assert await waiting(store) == ["1", "2", "3", "4", "5", "now it fits"]


async def test_h10_memories_take_half_of_the_outbox_and_then_stay_here_so_that_the_agent_goes_on(
    store: EdgeStore, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        await store.create_memory(memory(str(number), created_at=1 + number))
    assert await texts(store) == ["0", "1", "2", "3", "4"]
    assert await waiting(store) == ["0", "1", "2"]
    assert store.not_queued == 2 and "stay here only" in caplog.text
    await store.post([message("boss", str(n)) for n in range(3)])
    with pytest.raises(StoreError, match="outbox"):
        await store.post([message("boss")])


async def test_h10_what_never_gets_there_is_kept_with_its_reason(store: EdgeStore) -> None:
    sent = message("nobody", "lost")
    await store.post([sent])
    entries = await store.next_entries(1)
    await store.synced(entries, [(sent, "there is no agent 'nobody'")])
    assert await store.pending() == 0
    rows = await store._database.run(lambda c: c.execute("select address, reason from messages").fetchall())
    assert [tuple(row) for row in rows] == [("nobody", "there is no agent 'nobody'")]


async def test_without_a_swarm_to_sync_with_it_is_alone(tmp_path: Path) -> None:
    store = opened(tmp_path / "agent.db", EdgeBounds(max_memories=2, outbox_size=0))
    with pytest.raises(UnknownAgent):
        await store.post([message("boss")])
    lost = message("boss")
    turn = Turn(
        delivery=None, memories=tuple(memory(str(n), created_at=1 + n) for n in range(3)), outgoing=(lost,)
    )
    assert (await store.commit(turn)).dead == (lost.id,)
    assert await store.pending() == 0
    assert await texts(store) == ["1", "2"]
    await store.close()


async def test_what_no_store_takes_is_refused_before_it_waits(store: EdgeStore) -> None:
    with pytest.raises(StoreError, match="NUL"):
        await store.post([message("boss", "a\0")])
    with pytest.raises(Refused, match="itself"):
        await store.post([message("ada")])
    with pytest.raises(Refused, match="itself"):
        await store.commit(Turn(delivery=None, outgoing=(message(ADA),)))
    with pytest.raises(StoreError, match="not yours"):
        await store.commit(Turn(delivery=7))
    with pytest.raises(UnknownChild):
        await store.delegate([task("boss")])
    assert await store.pending() == 0


async def test_h9_answers_are_known_again_by_room_and_the_least_used_goes(store: EdgeStore) -> None:
    for number in (1, 2, 3):
        await store.keep_response("r", f"Question {number}?", f"answer {number}")
    assert await store.response("r", "  question   1 ") == "answer 1"
    await store.keep_response("r", "question 4", "answer 4")
    assert await store.response("r", "question 2") is None, "it was the least recently used"
    assert await store.response("r", "QUESTION 1!") == "answer 1"
    assert await store.response("another room", "question 1") is None
    await store.keep_response("r", "question 1", "a better answer")
    assert await store.response("r", "question 1") == "a better answer"
    assert await store.count_responses() == 3
    await store.keep_response("r", "long " * 1000, "not common")
    await store.keep_response("r", " ?", "not a question")
    assert await store.count_responses() == 3
