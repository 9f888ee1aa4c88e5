"""The guides do what they say: their files are written as they show them, and run."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

GUIDE = (Path(__file__).parents[2] / "docs/guide/plugins.md").read_text()
PLUGIN, TESTS = "agents/purse/plugin.py", "tests/test_purse.py"


def files() -> dict[str, str]:
    """Each Python block belongs to the file in its first line, and is added to what that has so far."""
    written: dict[str, str] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S):
        first, _, rest = block.partition("\n")
        assert first.startswith("# "), f"a block that names no file: {first}"
        written[first[2:]] = written.get(first[2:], "") + rest + "\n\n"
    return written


FILES = files()
NAMES = [
    node.name
    for node in ast.parse(FILES[TESTS]).body
    if isinstance(node, ast.AsyncFunctionDef) and node.name.startswith("test_")
]


def test_every_block_belongs_to_the_plugin_or_to_its_tests() -> None:
    assert set(FILES) == {PLUGIN, TESTS}
    assert len(NAMES) == GUIDE.count("async def test_") >= 8


@pytest.mark.parametrize("name", NAMES)
async def test_what_the_guide_shows_works(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    shown: dict[str, Any] = {}
    exec(compile(FILES[TESTS], TESTS, "exec"), shown)  # the guide's own text
    run: Callable[[], Awaitable[None]] = shown[name]
    await run()


def test_the_bounds_in_the_guide_are_those_of_the_code() -> None:
    from swarm.agent.choosing import VALIDATE_SECONDS
    from swarm.agent.composing import PROVIDER_CHARS
    from swarm.agent.events import LISTENER_SECONDS
    from swarm.agent.hooks import HOOK_SECONDS
    from swarm.agent.models.registry import CALL_SECONDS
    from swarm.components import Action, Evaluator, Provider

    async def nothing() -> None:
        """Does nothing."""

    rows = dict(
        re.findall(
            r"^\| (an action|a provider|an evaluator|`validate`[^|]*|a hook|a listener[^|]*|a model) \| ([^|]+) \|",
            GUIDE,
            re.M,
        )
    )
    assert rows["an action"] == f"{Action('A', nothing).timeout:g} s"
    assert rows["a provider"] == f"{Provider('P', nothing).timeout:g} s, {PROVIDER_CHARS:,} characters"
    assert rows["an evaluator"] == f"{Evaluator('E', nothing).timeout:g} s"
    assert rows["`validate` of an action"] == f"{VALIDATE_SECONDS:g} s"
    assert rows["a hook"] == f"{HOOK_SECONDS:g} s"
    assert rows["a listener to an event"] == f"{LISTENER_SECONDS:g} s"
    assert rows["a model"] == f"{CALL_SECONDS:g} s"


def test_the_entry_point_is_valid_toml_of_the_group_that_is_looked_in() -> None:
    from swarm.agent.plugins import ENTRY_POINTS

    [block] = re.findall(r"^```toml\n(.*?)^```$", GUIDE, re.M | re.S)
    assert list(tomllib.loads(block)["project"]["entry-points"]) == [ENTRY_POINTS]


async def test_the_clerk_of_the_first_guide_writes_down_and_reads_back(tmp_path: Path) -> None:
    from swarm.config import parse_config
    from swarm.testing import agent, say

    guide = (Path(__file__).parents[2] / "docs/guide/first-agent.md").read_text()
    [character] = re.findall(r"^```json\n(.*?)^```$", guide, re.M | re.S)
    [plugin] = re.findall(r"^```python\n(.*?)^```$", guide, re.M | re.S)
    clerk, tree = re.findall(r"^```toml\n(.*?)^```$", guide, re.M | re.S)
    (tmp_path / "plugin.py").write_text(plugin)
    async with agent(json.loads(character), folder=tmp_path) as runtime:
        said = [
            (await say(runtime, text)).response
            for text in ("note: buy milk", "read the notes back", "What can you do?")
        ]
    texts = [response.text for response in said if response is not None]
    assert texts == ["noted: buy milk", "buy milk", "Tell me something and I write it down."]
    assert all(text in guide for text in texts)
    for agents in (clerk, tree):
        assert parse_config(f'[swarm]\nname = "mine"\n{agents}').agents["clerk"].character == "agents/clerk"
