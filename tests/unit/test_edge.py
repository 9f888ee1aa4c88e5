"""The edge profile of an agent: its defaults, its plugins, and its answers while the network is away (H7 to H9)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from swarm.agent.edge import SYNC, EdgeProfile, edge_runtime
from swarm.agent.models.types import TextReply, TextRequest
from swarm.agent.runtime import CONVERSATION_LENGTH, AgentRuntime
from swarm.components import Action
from swarm.errors import ConfigError, ModelError, PluginError
from swarm.plugin import Plugin
from swarm.stores.memory import MemoryStore
from swarm.stores.sqlite.edge import EdgeStore
from swarm.testing import VirtualClock, others_run, say, started_agent
from tests.unit.test_models_openai import Endpoint, Script, completion

ADA = {"name": "Ada", "bio": "Ada watches a river."}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def edge(*plugins: Plugin, character: Any = None, **fields: Any) -> AsyncIterator[AgentRuntime]:
    runtime = edge_runtime(character or ADA, plugins=plugins, **fields)
    await runtime.initialize()
    try:
        yield runtime
    finally:
        await runtime.stop()


# ── H7: the defaults ──────────────────────────────────────────────────────────────────────────────
async def test_h7_the_profiles_defaults_are_its_own_and_nobody_elses(tmp_path: Path) -> None:
    async with edge() as runtime:
        assert isinstance(runtime.store, EdgeStore)
        assert (tmp_path / "agent.db").is_file()
        bounds = runtime.store.bounds
        assert (bounds.max_memories, bounds.cache_size, runtime.conversation_length) == (100, 50, 10)
        assert runtime.get_service(SYNC) is None, "without a SYNC_URL nothing is synced"
    plain = await started_agent("Ada")
    assert isinstance(plain.store, MemoryStore) and plain.conversation_length == CONVERSATION_LENGTH
    await plain.stop()


async def test_h7_what_is_set_stands_over_the_defaults_and_so_does_the_callers_store(tmp_path: Path) -> None:
    settings = {"maxMemorySize": 7, "CONVERSATION_LENGTH": "3", "EDGE_STORE": "sqlite:deep/ada.db"}
    character = {**ADA, "settings": {"cacheSize": 2}}
    async with edge(settings=settings, character=character) as runtime:
        assert isinstance(runtime.store, EdgeStore)
        bounds = runtime.store.bounds
        assert (bounds.max_memories, bounds.cache_size, runtime.conversation_length) == (7, 2, 3)
        assert (tmp_path / "deep" / "ada.db").is_file()
    from swarm.stores.memory import private_store

    mine = private_store("ada", edge_runtime(ADA).agent_id)
    async with edge(adapter=mine) as runtime:
        assert runtime.store is mine
    with pytest.raises(ConfigError, match="the edge's own, which has the outbox"):
        edge_runtime(ADA, mine, settings={"SYNC_URL": f"postgresql://s.{runtime.agent_id}:p@host/db"})
    assert not (tmp_path / "agent.db").exists(), "the caller's store is not overridden"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"maxMemorySize": "many"}, r"maxMemorySize .or MAX_MEMORY_SIZE. takes a whole number"),
        ({"maxMemorySize": 0}, "maxMemorySize is 0; it takes 1 to"),
        ({"conversationLength": -1}, "conversationLength is -1"),
        ({"syncSeconds": 0}, "syncSeconds is 0"),
        ({"EDGE_STORE": "postgresql://u:secret@h/d"}, "begins with sqlite:, not 'postgresql'"),
        ({"EDGE_STORE": "sqlite:"}, "names no file"),
    ],
)
def test_h7_a_setting_that_cannot_be_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        edge_runtime(ADA, settings=settings)
    assert "secret" not in str(caught.value)


def test_the_profile_shows_no_password() -> None:
    assert "secret" not in repr(EdgeProfile(sync_url="postgresql://s.id:secret@h/d"))


async def test_h7_memory_is_bounded_in_a_real_conversation_and_the_prompt_by_its_length() -> None:
    seen: list[TextRequest] = []

    async def model(request: TextRequest) -> TextReply:
        seen.append(request)
        return TextReply("well")

    plugin = Plugin("m")
    plugin.model("text_large", provider="m", priority=10)(model)
    async with edge(plugin) as runtime:
        for number in range(70):
            await say(runtime, f"message {number}")
        assert await runtime.store.count_memories() == 100
        assert len(seen[-1].messages) == 11  # ten from the room, and the one in hand
        latest = await runtime.store.get_memories(limit=1)
        assert latest[0].content.text == "well"


def test_h7_an_agent_at_the_edge_stays_within_64_mb_through_a_long_day(tmp_path: Path) -> None:
    """Stated in docs/guide/edge.md. In a process of its own, 300 turns with memory and the built-in model."""
    program = (
        "import asyncio, re\n"
        "from pathlib import Path\n"
        "from swarm.agent.edge import edge_runtime\n"
        "from swarm.testing import say\n"
        "async def main():\n"
        "    runtime = edge_runtime({'name': 'Ada', 'bio': 'x'})\n"
        "    await runtime.initialize()\n"
        "    for n in range(300):\n"
        "        await say(runtime, f'hello {n} ' + 'word ' * 50)\n"
        "    assert await runtime.store.count_memories() == 100\n"
        "    await runtime.stop()\n"
        "    status = Path('/proc/self/status').read_text()\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64 * 1024, f"{int(done.stdout) // 1024} MB"
    assert (tmp_path / "agent.db").stat().st_size < 2_000_000


async def test_h10_a_full_outbox_is_read_by_whoever_asked_and_the_agent_goes_on() -> None:
    async def report(message: Any, runtime: AgentRuntime) -> str:
        """Reports to the boss."""
        await runtime.peers.tell("boss", message.text)
        return "reported"

    async def is_a_report(message: Any) -> bool:
        return str(message.text).startswith("report")

    url = f"postgresql://s.{edge_runtime(ADA).agent_id}:p@127.0.0.1:1/db"
    settings = {"SYNC_URL": url, "outboxSize": 2}
    async with edge(
        Plugin("p", actions=[Action("REPORT", report, validate=is_a_report)]), settings=settings
    ) as runtime:
        assert await text(runtime, "report: 1") == "reported"
        assert "The outbox holds 2 entries" in await text(runtime, "report: 2")
        assert "Ada" in await text(runtime, "who are you?")
        assert await runtime.store.count_memories() == 6
        assert runtime.get_setting("SYNC_URL") is None, "plugins need no other login"


# ── H8: essential plugins, with what they need ────────────────────────────────────────────────────
def write_plugins(folder: Path) -> None:
    for name, rest in {
        "base": "",
        "camera": ", dependencies=['base']",
        "toy": ", required=False",
        "lamp": ", required=False, dependencies=['toy']",
        "game": ", dependencies=['lamp'], required=False",
    }.items():
        place = folder / "plugins" / name
        place.mkdir(parents=True)
        (place / "plugin.py").write_text(f"from swarm import Plugin\nplugin = Plugin('{name}'{rest})\n")


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({}, {"base", "camera"}),
        ({"essentialPlugins": ["camera"]}, {"base", "camera"}),
        ({"essentialPlugins": ["lamp"]}, {"lamp", "toy"}),
        ({"essentialPlugins": ["game", "base"]}, {"game", "lamp", "toy", "base"}),
        ({"essentialPlugins": []}, set()),
        ({"essentialPlugins": False}, {"base", "camera", "toy", "lamp", "game"}),
        ({"optionalPlugins": ["camera"]}, {"base"}),
    ],
)
async def test_h8_only_essential_plugins_are_taken_and_what_those_depend_on(
    settings: dict[str, Any], taken: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_plugins(tmp_path)
    character = {**ADA, "plugins": ["toy", "lamp", "game", "camera", "base"]}
    given = Plugin("given", required=False)
    async with edge(given, character=character, settings=settings, folder=tmp_path) as runtime:
        assert {plugin.name for plugin in runtime.plugins} == taken | {"given", "edge"}
        assert runtime.broken_plugins == {}


async def test_h8_a_plugin_that_is_called_essential_and_is_not_there_is_told_with_near_names(
    tmp_path: Path,
) -> None:
    write_plugins(tmp_path)
    runtime = edge_runtime(
        {**ADA, "plugins": ["camera", "base"]}, settings={"essentialPlugins": ["camra"]}, folder=tmp_path
    )
    with pytest.raises(PluginError, match=r"'camra'.*did you mean camera"):
        await runtime.initialize()
    wrong = edge_runtime(ADA, settings={"essentialPlugins": "camera"})
    with pytest.raises(PluginError, match="essentialPlugins is a list"):
        await wrong.initialize()


async def test_h8_elsewhere_every_plugin_is_taken(tmp_path: Path) -> None:
    write_plugins(tmp_path)
    character = {**ADA, "plugins": ["toy", "camera"]}
    runtime = await started_agent(character, folder=tmp_path)
    assert {plugin.name for plugin in runtime.plugins} == {"toy", "camera", "base"}
    await runtime.stop()


# ── H9: answers while the network is away ─────────────────────────────────────────────────────────
class Network:
    """An OpenAI-compatible endpoint on loopback that can be unplugged."""

    def __init__(self, *scripts: Script) -> None:
        self.told = Endpoint(*scripts)
        self.port = 0
        self._server: Any = None

    async def plug(self) -> None:
        import asyncio

        self._server = await asyncio.start_server(self.told.serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def unplug(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def settings(self) -> dict[str, Any]:
        return {"OPENAI_BASE_URL": f"http://127.0.0.1:{self.port}/v1", "OPENAI_API_KEY": "sk-x"}


async def text(runtime: AgentRuntime, asked: str, room: str = "test", **fields: Any) -> str:
    result = await say(runtime, asked, room=room, **fields)
    assert result.response is not None
    return result.response.text


async def test_h9_with_the_network_down_it_answers_from_what_it_said_before_else_from_the_local_model() -> (
    None
):
    network, clock = Network(completion("High at noon.")), VirtualClock()
    await network.plug()
    async with edge(settings=network.settings, clock=clock) as runtime:
        assert await text(runtime, "When is high water?") == "High at noon."
        await network.unplug()
        assert await text(runtime, "when is  HIGH water") == "High at noon."
        there = len(network.told.requests)
        local = await text(runtime, "Who are you?")
        assert "Ada" in local and "no answer" not in local
        other = await text(runtime, "When is high water?", room="another")
        assert other != "High at noon.", "what was said in one room is not told in another"
        await network.plug()
        assert await text(runtime, "Who are you?") == local, "for a minute nobody waits for the network again"
        assert len(network.told.requests) == there
        clock.advance(61)
        assert await text(runtime, "Who are you?") == "High at noon."
        await network.unplug()
        assert await text(runtime, "who are you") == "High at noon.", "and what is new is known the next time"


async def test_h9_what_was_answered_outlives_the_process() -> None:
    network = Network(completion("High at noon."))
    await network.plug()
    async with edge(settings=network.settings) as runtime:
        await text(runtime, "When is high water?")
    await network.unplug()
    async with edge(settings=network.settings) as runtime:
        assert await text(runtime, "When is high water?") == "High at noon."


async def test_h9_a_cached_answer_is_streamed_and_half_an_answer_is_never_finished_by_another() -> None:
    async def breaks(request: TextRequest) -> TextReply:
        if request.on_chunk is not None and broken:
            await request.on_chunk("half ")
            raise ModelError("The line broke.", reason="broken_off")
        return TextReply("whole")

    broken = False
    plugin = Plugin("far")
    plugin.model("text_large", provider="far", priority=10)(breaks)
    heard: list[str] = []

    async def hear(content: Any) -> None:
        heard.append(content.text)

    from swarm.components import Message
    from swarm.ids import new_id
    from swarm.records import Content

    def message() -> Message:
        return Message(id=new_id(), sender="s", room="test", kind="ask", content=Content(text="how?"))

    clock = VirtualClock()
    async with edge(plugin, clock=clock) as runtime:
        await runtime.process_message(message(), say=hear)
        broken = True
        result = await runtime.process_message(message(), say=hear)
        assert result.response is not None and "The line broke" in result.response.text
        assert heard == ["half ", ""]
        heard.clear()
        result = await runtime.process_message(message(), say=hear)  # offline by now
        assert result.response is not None and result.response.text == "whole"
        assert heard == ["whole", ""]


async def test_h9_a_refusal_of_the_endpoint_is_no_network_that_is_away() -> None:
    async def denies(request: TextRequest) -> TextReply:
        raise ModelError("The key is wrong.", reason="denied")

    plugin = Plugin("far")
    plugin.model("text_large", provider="far", priority=10)(denies)
    async with edge(plugin) as runtime:
        assert "The key is wrong." in await text(runtime, "hello")


async def test_h9_a_local_model_that_a_plugin_brings_is_the_local_model() -> None:
    async def far(request: TextRequest) -> TextReply:
        raise ModelError("Nobody is there.", reason="unreachable")

    async def near(request: TextRequest) -> TextReply:
        return TextReply("from the device")

    plugin = Plugin("models")
    plugin.model("text_large", provider="far", priority=10)(far)
    plugin.model("text_large", provider="local", priority=1)(near)
    async with edge(plugin) as runtime:
        assert await text(runtime, "hello") == "from the device"


async def test_h9_choosing_an_action_does_not_wait_for_a_network_that_is_away() -> None:
    asked = 0

    async def choose(request: Any) -> Any:
        nonlocal asked
        asked += 1
        raise ModelError("Nobody is there.", reason="unreachable")

    async def act(message: Any) -> str:
        """Does it."""
        await others_run()
        return "done"

    plugin = Plugin("p", actions=[Action("OPEN_GATE", act), Action("CLOSE_GATE", act)])
    plugin.model("choice", provider="far", priority=10)(choose)
    async with edge(plugin) as runtime:
        for _ in range(3):
            await say(runtime, "please do something about the gate")
        assert asked == 1
        assert await text(runtime, "open_gate: now") == "done"
