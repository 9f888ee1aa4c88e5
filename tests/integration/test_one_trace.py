"""One trace from an ask to its reply, through the coordinator and whomever the agent asks, and another for a tell."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.testing import eventually
from tests.collector import collecting
from tests.project_folder import ProjectFolder

PLUGIN = '''
from swarm import Plugin

plugin = Plugin("asker")


@plugin.action(similes=["RELAY"], examples=["relay this"])
async def relay(message, runtime):
    """Relays a question to the counter."""
    answer = await runtime.peers.ask("counter", "Count the words: one two three")
    return f"It says {answer.text}"
'''


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path)
    folder.swarm("init")
    agent = tmp_path / "agents" / "asker"
    agent.mkdir()
    (agent / "character.json").write_text(json.dumps({"name": "Asker", "bio": "Asks others."}))
    (agent / "plugin.py").write_text(PLUGIN)
    with (tmp_path / "swarm.toml").open("a") as file:
        file.write('\n[agents.asker]\ncharacter = "agents/asker"\n')
    yield folder
    folder.end()


@pytest.mark.timeout(120)
async def test_one_trace_from_ask_to_reply_through_coordinator_and_peer(here: ProjectFolder) -> None:
    async with collecting() as (collector, url):
        with (here.folder / "swarm.toml").open("a") as file:
            file.write(f'\n[settings]\nOTEL_EXPORTER_OTLP_ENDPOINT = "{url}"\n')
        await asyncio.to_thread(here.swarm, "up", "-d")
        done: subprocess.CompletedProcess[str] = await asyncio.to_thread(
            here.run, "ask", "asker", "relay: hello"
        )
        assert done.stdout.strip() == "It says 3 words", done.stderr

        def complete() -> list[dict[str, Any]]:
            found = [span for span in collector.all_spans if span["name"] == "invoke_agent asker"]
            trace = [s for s in collector.all_spans if found and s["traceId"] == found[0]["traceId"]]
            return trace if len(trace) >= 7 else []

        trace: list[dict[str, Any]] = await eventually(complete, seconds=20, what="a whole trace")
        by_id = {span["spanId"]: span for span in trace}

        def path(span: dict[str, Any]) -> list[str]:
            above = by_id.get(span.get("parentSpanId", ""))
            return [*(path(above) if above else []), span["name"]]

        [tool] = [span for span in trace if span["name"] == "execute_tool COUNT_WORDS"]
        assert path(tool) == [
            "publish down", "invoke_agent asker", "execute_tool RELAY", "publish up.ask", "publish down",
            "invoke_agent counter", "execute_tool COUNT_WORDS",
        ]  # fmt: skip
        assert "hello" not in json.dumps(trace)  # contents are never attributes

        await asyncio.to_thread(here.swarm, "tell", "counter", "Count the words: a")
        await eventually(
            lambda: any(
                attribute["key"] == "swarm.message.kind" and attribute["value"]["stringValue"] == "tell"
                for span in collector.all_spans
                if span["name"] == "invoke_agent counter" and span.get("parentSpanId")
                for attribute in span["attributes"]
            ),
            seconds=20,
        )
        await asyncio.to_thread(here.swarm, "down")
