"""The gallery's folders load as agents, and the herald keeps the news of a runtime."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest

from swarm import AgentRuntime, load_character
from swarm.agent.plugins import load_folder
from swarm.components import Message
from swarm.ids import new_id
from swarm.records import Content

ROOT = Path(__file__).parents[2]
AGENTS = {
    "greeter": [],
    "reader": ["READ_FILE"],
    "surveyor": ["SURVEY"],
    "herald": ["NOTE_NEWS", "WHATS_NEW"],
    "librarian": ["INDEX", "ANSWER"],
    "bridge": ["SEND"],
    "chronicler": [],
}
STAND_ALONE = {"librarian", "bridge", "chronicler"}
"""Not part of the survey that `swarm.toml` describes."""


async def live(name: str) -> AgentRuntime:
    folder = ROOT / "agents" / name
    runtime = AgentRuntime(await load_character(str(folder)), name=name, folder=folder)
    await runtime.initialize()
    return runtime


async def say(runtime: AgentRuntime, text: str, kind: str = "ask", at: int = 1, **data: str) -> Content:
    message = Message(
        id=new_id(), sender="surveyor", room="hall", kind=kind, content=Content(text, data), received_at=at
    )
    result = await runtime.process_message(message)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(result.response or Content()), type=Content)


@pytest.mark.parametrize("name", AGENTS)
def test_a_folder_brings_the_actions_it_is_known_for(name: str) -> None:
    plugin = load_folder(ROOT / "agents" / name)
    assert [action.name for action in plugin.actions] == AGENTS[name] if plugin else not AGENTS[name]


def test_every_folder_of_the_gallery_is_in_the_swarm_file_or_stands_alone() -> None:
    named = {
        agent["character"] for agent in tomllib.loads((ROOT / "swarm.toml").read_text())["agents"].values()
    }
    folders = {f"agents/{path.parent.name}" for path in (ROOT / "agents").glob("*/character.json")}
    assert folders == named | {f"agents/{name}" for name in STAND_ALONE}
    guide = (ROOT / "docs/guide/gallery.md").read_text()
    assert all(f"| `{folder.removeprefix('agents/')}` |" in guide for folder in folders)


async def test_the_herald_tells_what_was_announced_the_latest_first() -> None:
    herald = await live("herald")
    assert (await say(herald, "what's new?")).text == "Nothing has been announced yet."
    await say(herald, "12 files surveyed.", "announce", 1, report="/tmp/a.md")
    await say(herald, "13 files surveyed.", "announce", 2, report="/tmp/b.md")
    answer = await say(herald, "what's new?")
    assert answer.text == "surveyor: 13 files surveyed.\nsurveyor: 12 files surveyed."
    assert [news["report"] for news in answer.data["news"]] == ["/tmp/b.md", "/tmp/a.md"]
    await herald.stop()


async def test_the_herald_makes_no_news_of_small_talk() -> None:
    herald = await live("herald")
    await say(herald, "good morning", "tell")
    assert "Ask me what is new" in (await say(herald, "hello")).text
    assert (await say(herald, "any news?")).data["news"] == []
    await herald.stop()


async def test_the_greeter_answers_from_its_character_file() -> None:
    greeter = await live("greeter")
    assert "swarm tree" in (await say(greeter, "who are the other agents?")).text
    await greeter.stop()


async def test_the_reader_reads_a_file_that_is_named_in_a_goal_or_in_data(tmp_path: Path) -> None:
    reader = await live("reader")
    (tmp_path / "notes.md").write_text("# Notes\n\nThe harbour master keeps the tide tables.\n")
    path = str(tmp_path / "notes.md")
    by_data = await say(reader, "read_file: whatever", "task", path=path)
    by_goal = await say(reader, f"read_file: {path}", "task")
    assert by_data.data["language"] == by_goal.data["language"] == "Markdown"
    assert by_data.data["sentences"] == ["The harbour master keeps the tide tables."]
    assert "Which file" in (await say(reader, "read_file:", "task")).text
    await reader.stop()


async def test_a_task_is_read_by_its_input_whatever_words_its_goal_has(tmp_path: Path) -> None:
    """The path of a task lies in its input. Looked for elsewhere, the reader chatted and the task completed."""
    (tmp_path / "notes.md").write_text("# Notes\n\nThe harbour master keeps the tide tables.\n")
    for name, field in (("reader", "path"), ("surveyor", "path")):
        runtime = await live(name)
        [action] = runtime.actions.values()
        assert action.validate is not None
        for input, wanted in (({field: str(tmp_path)}, True), ({}, False)):
            content = Content("please do it", {"input": input})
            task = Message(id=new_id(), sender="x", room="y", kind="task", content=content, task=new_id())
            assert await action.validate(message=task) is wanted, name
        await runtime.stop()


async def test_a_configured_model_writes_the_sentences_and_its_failure_leaves_the_files_own(
    tmp_path: Path,
) -> None:
    from swarm.agent.models.types import TextReply, TextRequest

    asked: list[TextRequest] = []

    async def model(request: TextRequest) -> TextReply:
        asked.append(request)
        if len(asked) > 1:
            raise OSError("the model is down")
        return TextReply("It is about tides.")

    reader = await live("reader")
    reader.models.register("text_large", model, "acme")
    (tmp_path / "notes.md").write_text("# Notes\n\nThe harbour master keeps the tide tables.\n")
    first = await say(reader, "read_file: x", "task", path=str(tmp_path / "notes.md"))
    assert (first.data["sentences"], first.data["by"]) == (["It is about tides."], "acme")
    assert "harbour master" in asked[0].prompt
    second = await say(reader, "read_file: x", "task", path=str(tmp_path / "notes.md"))
    assert second.data["sentences"] == ["The harbour master keeps the tide tables."]
    assert "did not answer" in second.data["reason"]
    await reader.stop()
