"""A store of an agent that is alone, in memory or in a file of its own (B4)."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from bus.errors import Refused
from swarm.errors import StoreDown, StoreError, UnknownAgent, UnknownChild
from swarm.ids import string_to_uuid
from swarm.records import Committed, Turn
from swarm.store import Store
from swarm.stores import memory as in_memory
from swarm.stores import sqlite
from swarm.stores.sqlite.edge import EdgeBounds, EdgeStore
from swarm.testing import agent, say
from tests.contract.store_fixtures import memory, message, task

ADA = string_to_uuid("ada")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "ada.db"


@pytest.fixture(params=["memory", "sqlite", "edge"])
async def store(request: pytest.FixtureRequest, file: Path) -> AsyncIterator[Store]:
    opened: Store
    if request.param == "memory":
        opened = in_memory.private_store("ada", ADA)
    elif request.param == "sqlite":
        opened = sqlite.private_store(file, "ada", ADA)
    else:
        opened = EdgeStore(sqlite.SqliteDatabase(file), "ada", ADA, EdgeBounds(outbox_size=0))
    await opened.init()
    yield opened
    await opened.close()


async def test_a_store_answers_and_closes_twice(store: Store) -> None:
    await store.init()
    await store.ping()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.agents()


async def test_alone_there_is_nobody_to_write_to(store: Store) -> None:
    with pytest.raises(UnknownAgent):
        await store.post([message("boss")])
    with pytest.raises(Refused, match="itself"):
        await store.post([message("ada")])
    for group in ("all", "children"):
        assert [r.recipients for r in await store.post([message(group)])] == [()]
        assert await store.resolve(group) == ()
    for address in ("boss", "parent", "role:x"):
        with pytest.raises(UnknownAgent):
            await store.resolve(address)
    assert await store.resolve("ada") == ("ada",)
    with pytest.raises(UnknownChild):
        await store.delegate([task("boss")])
    assert await store.get_tasks([task("x").id]) == []
    assert not await store.report(task("x").id, 1, 50.0, "half")
    assert [a.name for a in await store.agents()] == ["ada"]


async def test_a_turn_is_written_whole_or_not_at_all(store: Store) -> None:
    kept, lost = memory("kept"), message("nobody")
    turn = Turn(delivery=None, memories=(kept,), outgoing=(lost, message("all")))
    assert await store.commit(turn) == Committed("committed", (), (lost.id,))
    await store.commit(Turn(delivery=None, memories=(kept,)))
    assert [m.content.text for m in await store.get_memories()] == ["kept"]
    with pytest.raises(StoreError, match="not yours"):
        await store.commit(Turn(delivery=7, memories=(memory("no"),)))
    with pytest.raises(StoreError):
        await store.commit(Turn(delivery=None, memories=(memory("no"), memory("\0"))))
    assert await store.count_memories() == 1


async def test_an_agent_thinks_and_remembers_on_it(store: Store) -> None:
    async with agent("ada", adapter=store) as runtime:
        result = await say(runtime, "hello", room="r")
        assert result.response is not None
        found = await runtime.search_memories("hello")
        assert "hello" in [f.memory.content.text for f in found]


# ── the file ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_file_keeps_everything_and_is_its_owners_only(file: Path) -> None:
    first = sqlite.private_store(file, "ada", ADA)
    kept = memory("kept", created_at=1)
    await first.create_memory(kept)
    await first.set_embeddings("m", {kept.id: [3.0, 4.0]})
    await first.join("lobby", "followed")
    for one in file.parent.iterdir():
        assert one.stat().st_mode & 0o077 == 0, one
    await first.close()

    again = sqlite.private_store(file, "ada", ADA)
    assert await again.get_memories() == [kept]
    assert [f.memory for f in await again.search_memories(text="KEPT")] == [kept]
    assert (await again.search_memories(embedding=[3, 4], model="m"))[0].score == pytest.approx(1.0)
    assert [r.state for r in await again.rooms()] == ["followed"]
    await again.close()


async def test_what_is_committed_survives_a_kill(file: Path) -> None:
    program = (
        "import asyncio, os, signal\n"
        "from swarm.records import Content, Memory, Turn\n"
        "from swarm.ids import new_id\n"
        "from swarm.stores.sqlite import private_store\n"
        "async def main():\n"
        f"    store = private_store({str(file)!r}, 'ada', {ADA!r})\n"
        "    for n in range(20):\n"
        "        one = Memory(id=new_id(), room='r', entity='e', content=Content(str(n)))\n"
        "        await store.commit(Turn(delivery=None, memories=(one,)))\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, timeout=30
    )
    assert done.returncode == -9, done.stderr
    store = sqlite.private_store(file, "ada", ADA)
    assert [m.content.text for m in await store.get_memories()] == [str(n) for n in range(20)]
    await store.close()


async def test_a_file_in_use_by_another_process_is_refused_in_a_sentence(file: Path) -> None:
    mine = sqlite.private_store(file, "ada", ADA)
    await mine.init()
    other = sqlite.private_store(file, "ada", ADA)
    with pytest.raises(StoreError, match="in use by another process"):
        await other.init()
    await mine.close()
    await other.init()
    await other.close()


def nonsense(file: Path) -> None:
    file.write_bytes(b"this is a letter to my aunt, and no database " * 100)


def cut_short(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 // 4096 * 4096])


def overwritten(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    for at in range(4096, len(whole), 4096):
        whole[at : at + 64] = b"\xff" * 64
    file.write_bytes(whole)


@pytest.mark.parametrize("spoil", [nonsense, cut_short, overwritten])
async def test_a_spoilt_file_is_told_in_a_sentence_and_left_as_it_is(
    file: Path, spoil: Callable[[Path], None]
) -> None:
    store = sqlite.private_store(file, "ada", ADA)
    for number in range(50):
        await store.create_memory(memory(f"memory {number} " * 50))
    await store.close()
    spoil(file)
    spoilt = file.read_bytes()
    store = sqlite.private_store(file, "ada", ADA)
    with pytest.raises(StoreError, match="no whole database") as caught:
        await store.get_memories(limit=100)
    assert caught.value.reason == "corrupt"
    await store.close()
    assert file.read_bytes() == spoilt


async def test_the_file_of_another_agent_program_or_version_is_refused(file: Path, tmp_path: Path) -> None:
    store = sqlite.private_store(file, "ada", ADA)
    await store.init()
    await store.close()
    store = sqlite.private_store(file, "ada", string_to_uuid("another ada"))
    with pytest.raises(StoreError, match="not ada's"):
        await store.init()
    await store.close()

    with sqlite3.connect(file) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    store = sqlite.private_store(file, "ada", ADA)
    with pytest.raises(StoreError, match="newer program"):
        await store.init()
    await store.close()

    foreign = tmp_path / "foreign.db"
    with sqlite3.connect(foreign) as connection:
        connection.execute("create table bookmarks (url text)")
    connection.close()
    store = sqlite.private_store(foreign, "ada", ADA)
    with pytest.raises(StoreError, match="another program's"):
        await store.init()
    await store.close()


async def test_a_place_where_no_file_can_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    store = sqlite.private_store(tmp_path / "plain" / "ada.db", "ada", ADA)
    with pytest.raises(StoreError, match="cannot be opened"):
        await store.init()
    await store.close()


async def test_a_full_disk_is_told_and_nothing_is_half_written(file: Path) -> None:
    database = sqlite.SqliteDatabase(file)
    store = sqlite.SqliteStore(database, "ada", ADA, owner=True)
    await store.create_memory(memory("first"))
    await database.run(lambda c: c.execute("pragma max_page_count = 1").fetchall())
    with pytest.raises(StoreDown, match="make room"):
        await store.commit(Turn(delivery=None, memories=tuple(memory("x" * 5000) for _ in range(20))))
    assert await store.count_memories() == 1
    await database.run(lambda c: c.execute("pragma max_page_count = 1000000").fetchall())
    await store.create_memory(memory("second"))
    assert await store.count_memories() == 2
    await store.close()


async def test_b4_fault_23_closing_one_agents_store_leaves_the_others_data(file: Path) -> None:
    database = sqlite.SqliteDatabase(file)
    ada = sqlite.SqliteStore(database, "ada", ADA)
    bob = sqlite.SqliteStore(database, "bob", string_to_uuid("bob"))
    await ada.create_memory(memory("ada's"))
    await bob.create_memory(memory("bob's"))
    await ada.close()
    assert [m.content.text for m in await bob.get_memories()] == ["bob's"], "a borrower releases only itself"
    again = sqlite.SqliteStore(database, "ada", ADA)
    assert [m.content.text for m in await again.get_memories()] == ["ada's"]
    await database.close()
    with pytest.raises(StoreError, match="closed"):
        await bob.get_memories()
