"""The gallery's chronicler: hooks alone, a bounded journal and one memory for each message (P14)."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from swarm import Plugin
from swarm.agent.runtime import AgentRuntime
from swarm.ids import new_id
from swarm.testing import agent, say

FOLDER = Path(__file__).parents[2] / "agents" / "chronicler"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl*"), reverse=True)
        for line in file.read_text().splitlines()
    ]


async def test_p14_every_message_is_marked_before_its_turn_and_written_down_after_it(tmp_path: Path) -> None:
    seen: list[Any] = []
    plugin = Plugin("look")

    @plugin.action()
    async def look(message: Any) -> str:
        seen.append(message.content.metadata)
        return "I saw it"

    async with agent("Scribe", plugin, folder=FOLDER, settings={"CHRONICLE_FOLDER": str(tmp_path)}) as scribe:
        await say(scribe, "look: at this", data={"password": "hunter2"}, room="hall", sender="ada")
        [memory] = await scribe.adapter.get_memories(kind="chronicle", room="hall")
    assert seen == [{"preprocessed": True}]
    [line] = lines(tmp_path)
    assert (line["from"], line["room"], line["said"], line["answered"]) == (
        "ada",
        "hall",
        "look: at this",
        "I saw it",
    )
    assert line["preprocessed"] is True
    assert memory.content.data == line and memory.entity == "ada"
    assert "hunter2" not in json.dumps(line), "what programs send along is not written down"


async def test_p14_a_message_that_comes_twice_is_one_memory(tmp_path: Path) -> None:
    async with agent("Scribe", folder=FOLDER, settings={"CHRONICLE_FOLDER": str(tmp_path)}) as scribe:
        id = new_id()
        await say(scribe, "hello", id=id)
        await say(scribe, "hello", id=id)
        assert await scribe.adapter.count_memories(kind="chronicle") == 1


async def test_p14_the_journal_never_grows_beyond_its_bounds_and_keeps_the_youngest(tmp_path: Path) -> None:
    settings = {"CHRONICLE_FOLDER": str(tmp_path), "CHRONICLE_BYTES": 1200, "CHRONICLE_FILES": 2}
    async with agent("Scribe", folder=FOLDER, settings=settings) as scribe:
        for n in range(30):
            await say(scribe, f"message {n}")
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["scribe.jsonl", "scribe.jsonl.1", "scribe.jsonl.2"]
    assert all(file.stat().st_size <= 1200 for file in tmp_path.iterdir())
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in tmp_path.iterdir())
    said = [line["said"] for line in lines(tmp_path)]
    assert said == [f"message {n}" for n in range(30 - len(said), 30)] and len(said) >= 3


async def test_p14_a_journal_that_cannot_be_written_costs_no_message(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    async with agent(
        "Scribe", folder=FOLDER, settings={"CHRONICLE_FOLDER": str(tmp_path / "taken")}
    ) as scribe:
        result = await say(scribe, "hello")
        assert result.status == "handled" and result.response is not None
        assert await scribe.adapter.count_memories(kind="chronicle") == 1
        assert _failed(scribe) == 1


async def test_p14_a_long_text_is_cut_and_the_cut_is_said(tmp_path: Path) -> None:
    async with agent("Scribe", folder=FOLDER, settings={"CHRONICLE_FOLDER": str(tmp_path)}) as scribe:
        await say(scribe, "x" * 10_000)
    assert lines(tmp_path)[0]["said"].endswith("x… (6,000 more characters)")


def _failed(runtime: AgentRuntime) -> int:
    return runtime.metrics.failures["hook chronicler.after_message"]
