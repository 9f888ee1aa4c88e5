"""The gallery's librarian: a folder becomes memory, and answers have file and line or are none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm.agent.hand import MessageResult
from swarm.agent.runtime import AgentRuntime
from swarm.stores.memory import private_store
from swarm.testing import ScriptedModel, say, started_agent

FOLDER = Path(__file__).parents[2] / "agents" / "librarian"
HARBOUR = """# The harbour

Ships arrive from the north. They wait for the tide.

## Lights

The eastern lighthouse blinks twice every nine seconds.
Its lamp is changed in March.

```
# not a heading
lamp = "oil"
```
"""


@pytest.fixture
def library(tmp_path: Path) -> Path:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "harbour.md").write_text(HARBOUR)
    (tmp_path / "notes" / "bread.txt").write_text(
        "Rye bread rests for twelve hours.\n\nThen it is baked at 240 degrees.\n"
    )
    return tmp_path


@asynccontextmanager
async def librarian(root: Path, *plugins: Any, **fields: Any) -> AsyncIterator[AgentRuntime]:
    runtime = await started_agent(
        {"name": "Librarian", "bio": "A librarian in a test."},
        *plugins,
        folder=FOLDER,
        settings={"LIBRARY_ROOT": str(root)},
        **fields,
    )
    try:
        yield runtime
    finally:
        await runtime.stop()


def text(result: MessageResult) -> str:
    assert result.status == "handled" and result.response is not None
    return result.response.text


def citations(result: MessageResult) -> list[str]:
    assert result.response is not None
    return list(result.response.data["citations"])


async def test_a_question_is_answered_with_file_and_line(library: Path) -> None:
    async with librarian(library) as runtime:
        assert "2 files (2 new, 0 changed, 0 gone)" in text(await say(runtime, "index: notes"))
        result = await say(runtime, "how often does the eastern lighthouse blink?")
        assert (
            text(result).splitlines()[0]
            == "The eastern lighthouse blinks twice every nine seconds. (notes/harbour.md:7)"
        )
        assert citations(result)[0] == "notes/harbour.md:7"
        result = await say(runtime, "answer: rye bread rests")
        assert citations(result) == ["notes/bread.txt:1"]


@pytest.mark.parametrize("question", ["who won the cup?", "what is the capital of Peru?", "why?"])
async def test_where_nothing_is_found_it_says_so_and_cites_nothing(library: Path, question: str) -> None:
    async with librarian(library) as runtime:
        await say(runtime, "index: notes")
        result = await say(runtime, question)
        assert citations(result) == []
        assert text(result) == "I found nothing about that in notes."


async def test_without_a_folder_it_asks_for_one(library: Path) -> None:
    async with librarian(library) as runtime:
        assert "index: docs" in text(await say(runtime, "what is a lighthouse?"))


async def test_reading_again_writes_nothing_and_a_change_forgets_the_old_lines(library: Path) -> None:
    async with librarian(library) as runtime:
        await say(runtime, "index: notes")
        before = await runtime.adapter.count_memories(kind="passage")
        assert "(0 new, 0 changed, 0 gone), 0 new passages" in text(await say(runtime, "index: notes"))
        assert await runtime.adapter.count_memories(kind="passage") == before
        assert await runtime.adapter.count_memories(kind="catalogue") == 1
        harbour = library / "notes" / "harbour.md"
        harbour.write_text("New first line.\n\n" + HARBOUR.replace("twice", "thrice"))
        (library / "notes" / "bread.txt").unlink()
        assert "1 files (0 new, 1 changed, 1 gone)" in text(await say(runtime, "index: notes"))
        result = await say(runtime, "how often does the eastern lighthouse blink?")
        assert "thrice" in text(result) and "twice" not in text(result)
        assert citations(result)[0] == "notes/harbour.md:9"
        assert citations(await say(runtime, "how long does rye bread rest?")) == []
        harbour.write_text(HARBOUR)  # as it was: its old passages count again
        await say(runtime, "index: notes")
        assert (
            citations(await say(runtime, "how often does the eastern lighthouse blink?"))[0]
            == "notes/harbour.md:7"
        )


async def test_the_library_survives_a_restart_of_the_agent(library: Path) -> None:
    store = private_store("librarian", "6f0b1c9e-0000-4000-8000-000000000001")
    async with librarian(library, adapter=Keep(store)) as runtime:
        await say(runtime, "index: notes")
    async with librarian(library, adapter=Keep(store)) as runtime:
        result = await say(runtime, "when is the lamp of the lighthouse changed?")
        assert "notes/harbour.md:8" in citations(result)


class Keep:
    """A borrowed store: its borrower's close leaves it open."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nowhere", "There is no folder"),
        ("notes/bread.txt", "is not a folder"),
        ("..", "outside of the library"),
        ("/etc", "outside of the library"),
        ("link", "outside of the library"),
    ],
)
async def test_a_folder_that_cannot_be_read_is_a_sentence(library: Path, path: str, words: str) -> None:
    (library / "link").symlink_to("/etc")
    async with librarian(library) as runtime:
        said = await say(runtime, "index:", data={"path": path})
        assert not said.actions[0].success and words in text(said)


async def test_what_is_no_text_hidden_secret_linked_or_too_large_is_left_out(library: Path) -> None:
    notes = library / "notes"
    (notes / ".env").write_text("LIGHTHOUSE_KEY=blink-secret")
    (notes / "server.pem").write_text("lighthouse private key")
    (notes / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
    (notes / "huge.txt").write_text("lighthouse " * 60_000)
    (notes / "away.md").symlink_to("/etc/hostname")
    os.mkfifo(notes / "pipe")
    async with librarian(library) as runtime:
        said = text(await say(runtime, "index: notes"))
        assert "2 files" in said
        assert "huge.txt (larger than 512 kB)" in said and "picture.png (no UTF-8 text)" in said
        found = await runtime.adapter.get_memories(kind="passage", limit=1000)
        assert {one.content.data["path"] for one in found} == {"harbour.md", "bread.txt"}


async def test_every_line_of_a_long_file_is_in_one_passage_and_fenced_code_is_no_heading(
    library: Path,
) -> None:
    lines = [f"line {n} " + "word " * (n % 40) for n in range(1, 900)]
    (library / "notes" / "long.txt").write_text("\n".join(lines))
    async with librarian(library) as runtime:
        await say(runtime, "index: notes")
        found = [one.content for one in await runtime.adapter.get_memories(kind="passage", limit=1000)]
        long = sorted(
            (one for one in found if one.data["path"] == "long.txt"), key=lambda one: one.data["first"]
        )
        assert [n for one in long for n in range(one.data["first"], one.data["last"] + 1)] == list(
            range(1, 900)
        )
        assert all(len(one.text) <= 1500 for one in long)
        assert all(one.text.split("\n")[0] == lines[one.data["first"] - 1] for one in long)
        assert {one.data["heading"] for one in found if one.data["path"] == "harbour.md"} == {
            "The harbour",
            "Lights",
        }


async def test_a_model_words_the_answer_and_its_numbers_become_places(library: Path) -> None:
    model = ScriptedModel(texts=["It blinks twice every nine seconds [1]."])
    async with librarian(library, model.plugin()) as runtime:
        await say(runtime, "index: notes")
        result = await say(runtime, "how often does the eastern lighthouse blink?")
        [place] = citations(result)
        assert place.startswith("notes/harbour.md:5-") and text(result).endswith(f"({place}).")
        assert "<passage number=" in model.asked[-1].prompt  # type: ignore[union-attr]


@pytest.mark.parametrize("said", ["It blinks.", "It blinks [9].", "It blinks [0]."])
async def test_a_model_that_names_no_passage_is_not_believed(library: Path, said: str) -> None:
    async with librarian(library, ScriptedModel(texts=[said]).plugin()) as runtime:
        await say(runtime, "index: notes")
        result = await say(runtime, "how often does the eastern lighthouse blink?")
        assert citations(result)[0] == "notes/harbour.md:7" and said not in text(result)


async def test_a_model_that_fails_or_finds_nothing_costs_no_answer(library: Path) -> None:
    async with librarian(library, ScriptedModel(texts=["NOT FOUND"]).plugin()) as runtime:
        await say(runtime, "index: notes")
        assert text(await say(runtime, "how often does the lighthouse blink?")).startswith("I found nothing")
        result = await say(runtime, "how often does the lighthouse blink?")  # out of lines: the model raises
        assert citations(result)[0] == "notes/harbour.md:7"
