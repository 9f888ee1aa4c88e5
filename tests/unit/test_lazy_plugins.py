"""Lazy and eager start (rows G1 to G4, fault 18), and plugins that are broken."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from swarm.agent.health import report
from swarm.agent.lifecycle import Phase
from swarm.agent.manifest import main, manifest_of, read_manifest
from swarm.agent.plugins import load_folder
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action
from swarm.errors import PluginError
from swarm.plugin import Plugin
from swarm.testing import ScriptedModel, agent, others_run, say, started_agent

WEATHER = """
from pathlib import Path
from swarm import Plugin, Service

(Path(__file__).parent / "imported").write_text(str(len(list(Path(__file__).parent.glob("imported*")))))
plugin = Plugin("weather", "Tells the weather.")

@plugin.service
class Station(Service):
    service_type = "station"

@plugin.hook
async def start(runtime):
    runtime.get_service("station").began = str(runtime.get_service("station").status)

@plugin.action(similes=["SKY"], examples=["will it rain in Rome?"])
async def forecast(runtime, *, city: str):
    "Tells the weather of a city."
    return f"{city}: sun, {runtime.get_service('station').began}"
"""
LAZY = {"load": "lazy"}
CHARACTER = {"name": "Ada", "bio": "x", "plugins": ["weather"]}


def write(folder: Path, code: str, name: str = "weather", *, manifest: bool = True, **changes: Any) -> Path:
    """A plugin in the agent's folder; its manifest is made from it, unless it is broken: then from `changes`."""
    place = folder / "plugins" / name
    place.mkdir(parents=True)
    (place / "plugin.py").write_text(code)
    if manifest:
        assert main([str(place)]) == 0
        document = json.loads((place / "plugin.json").read_text())
        (place / "plugin.json").write_text(json.dumps({**document, **changes}))
        (place / "imported").unlink(missing_ok=True)
    return place


async def test_g1_a_lazy_start_imports_nothing_and_still_does_store_services_and_status(
    tmp_path: Path,
) -> None:
    """G1, fault 18."""
    place = write(tmp_path, WEATHER)
    trace: list[str] = []

    async def start(runtime: Any) -> None:
        trace.append("core started")

    async with agent(CHARACTER, Plugin("core", start=start), folder=tmp_path, settings=LAZY) as runtime:
        assert [plugin.name for plugin in runtime.plugins] == ["core"]
        assert not (place / "imported").exists()
        assert trace == ["core started"]
        assert runtime.lifecycle.phase is Phase.ACTIVE
        await runtime.remember("the store works")
        assert await runtime.store.count_memories() == 1


async def test_g3_a_lazily_available_action_is_a_candidate_and_loads_when_it_is_chosen(
    tmp_path: Path,
) -> None:
    """G3: chosen by the model among loaded ones, its service and its start hook with it."""
    place = write(tmp_path, WEATHER)

    async def echo(message: Any) -> str:
        "Says it back."
        return str(message.text)

    model = ScriptedModel(choices=["FORECAST"])
    core = Plugin("core", actions=[Action("ECHO", echo)])
    async with agent(CHARACTER, core, model.plugin(), folder=tmp_path, settings=LAZY) as runtime:
        await say(runtime, "hello")  # without a city the forecast cannot be meant, so nobody is asked
        assert not (place / "imported").exists()
        result = await say(runtime, "will it rain?", data={"city": "Rome"})
        assert result.response is not None
        assert result.response.text == "Rome: sun, running"
        [asked] = model.asked
        offered = {one.name: one.description for one in asked.candidates}  # type: ignore[union-attr]
        assert offered == {"ECHO": "Says it back.", "FORECAST": "Tells the weather of a city."}
        assert "weather" in [plugin.name for plugin in runtime.plugins]


async def test_g3_get_action_loads_and_knows_what_nobody_offers(tmp_path: Path) -> None:
    write(tmp_path, WEATHER)
    async with agent(CHARACTER, folder=tmp_path, settings=LAZY) as runtime:
        assert await runtime.get_action("FORCAST") is None
        action = await runtime.get_action("FORECAST")
        assert action is runtime.actions["FORECAST"]
        named = await say(runtime, "sky: now", data={"city": "Oslo"})
        assert named.response is not None
        assert named.response.text.startswith("Oslo")


async def test_g2_concurrent_loads_of_one_plugin_load_it_once_and_its_dependencies_first(
    tmp_path: Path,
) -> None:
    trace: list[str] = []

    def traced(name: str, *needs: str) -> Plugin:
        async def init(config: Any, runtime: Any) -> None:
            trace.append(f"{name} begins")
            await others_run()
            trace.append(f"{name} ends")

        return Plugin(name, dependencies=needs, init=init)

    async with agent("Ada", folder=tmp_path) as runtime:
        for plugin in (traced("top", "low"), traced("low")):
            runtime.loading.add(plugin)
        loaded = await asyncio.gather(*(runtime.load_plugin(name) for name in ("top", "low", "top", "top")))
    assert trace == ["low begins", "low ends", "top begins", "top ends"]
    assert loaded[0] is loaded[2]


async def test_g2_a_failed_load_is_in_sight_and_tried_again(tmp_path: Path) -> None:
    place = write(tmp_path, WEATHER)
    (place / "plugin.py").write_text("import nowhere_at_all\n")
    async with agent(CHARACTER, folder=tmp_path, settings=LAZY) as runtime:
        failed = await say(runtime, "forecast:", data={"city": "Rome"})
        assert failed.status == "handled"
        assert failed.response is not None
        assert "line 1 does not load: ModuleNotFoundError" in failed.response.text
        assert "nowhere_at_all" in runtime.broken_plugins["weather"]
        (place / "plugin.py").write_text(WEATHER)
        mended = await say(runtime, "forecast:", data={"city": "Rome"})
        assert mended.response is not None
        assert mended.response.text == "Rome: sun, running"
        assert not runtime.broken_plugins


async def test_g2_a_circle_met_on_first_use_is_named(tmp_path: Path) -> None:
    for name, need in (("a", "b"), ("b", "a")):
        code = f"from swarm import Plugin\nplugin = Plugin({name!r}, dependencies=[{need!r}])\n"
        write(tmp_path, code, name)
    character = {**CHARACTER, "plugins": ["a", "b"]}
    async with agent(character, folder=tmp_path, settings=LAZY) as runtime:
        with pytest.raises(PluginError, match="circle: a → b → a"):
            await asyncio.wait_for(runtime.load_plugin("a"), 5)


async def test_g2_a_plugin_loads_another_from_its_own_init(tmp_path: Path) -> None:
    write(tmp_path, WEATHER)

    async def init(config: Any, runtime: Any) -> None:
        await runtime.load_plugin("weather")

    async with agent("Ada", Plugin("core", init=init), folder=tmp_path) as runtime:
        assert [plugin.name for plugin in runtime.plugins] == ["weather", "core"]
        assert str(runtime.get_service("station").status) == "running"  # type: ignore[union-attr]


async def test_g3_an_action_whose_validate_says_no_once_it_is_loaded_is_not_run(tmp_path: Path) -> None:
    code = (
        "from swarm import Plugin\nplugin = Plugin('weather')\nasync def no():\n    return False\n"
        "@plugin.action(validate=no)\nasync def forecast():\n    'Never.'\n    return 'wrong'\n"
    )
    write(tmp_path, code)
    async with agent(CHARACTER, folder=tmp_path, settings=LAZY) as runtime:
        result = await say(runtime, "anything")
        assert result.actions == ()
        assert result.response is not None
        assert result.response.text != "wrong"


async def test_g1_a_plugin_that_guards_every_message_is_never_left_for_later(tmp_path: Path) -> None:
    code = (
        "from swarm import Plugin\nplugin = Plugin('guard')\n"
        "@plugin.hook\nasync def before_action(action):\n    return False\n"
    )
    write(tmp_path, code, "guard")
    async with agent({**CHARACTER, "plugins": ["guard"]}, folder=tmp_path, settings=LAZY) as runtime:
        assert [plugin.name for plugin in runtime.plugins] == ["guard"]


async def test_g3_a_manifest_that_is_not_kept_is_said(tmp_path: Path) -> None:
    write(tmp_path, WEATHER, actions=[{"name": "FORECAST"}, {"name": "HISTORY"}])
    async with agent(CHARACTER, folder=tmp_path, settings=LAZY) as runtime:
        result = await say(runtime, "history: please")
    assert result.response is not None
    assert "not what its manifest says: it has no HISTORY" in result.response.text


async def test_g3_a_bad_manifest_names_its_file_and_how_to_write_it(tmp_path: Path) -> None:
    write(tmp_path, WEATHER, actions="FORECAST")
    with pytest.raises(PluginError, match=r"plugin\.json is not a plugin's manifest.*swarm\.agent\.manifest"):
        await started_agent(CHARACTER, folder=tmp_path, settings=LAZY)


def test_g3_a_manifest_says_what_its_plugin_offers(tmp_path: Path) -> None:
    place = write(tmp_path, WEATHER)
    plugin = load_folder(place)
    assert plugin is not None
    manifest = read_manifest(place / "plugin.json")
    assert manifest == manifest_of(plugin)
    [card] = manifest.actions
    assert card.parameters is not None
    assert card.parameters["required"] == ["city"]


async def test_g3_two_plugins_that_offer_one_action_are_refused_before_either_is_imported(
    tmp_path: Path,
) -> None:
    write(tmp_path, WEATHER)
    write(tmp_path, WEATHER.replace('Plugin("weather"', 'Plugin("sky"'), "sky")
    character = {**CHARACTER, "plugins": ["weather", "sky"]}
    with pytest.raises(PluginError, match="Plugin sky: Action FORECAST already registered"):
        await started_agent(character, folder=tmp_path, settings=LAZY)


async def test_g4_an_eager_agent_has_everything_loaded_before_its_first_message(tmp_path: Path) -> None:
    """G4, fault 18."""
    place = write(tmp_path, WEATHER)
    async with agent(CHARACTER, folder=tmp_path, settings={"load": "eager"}) as runtime:
        assert (place / "imported").exists()
        assert list(runtime.actions) == ["FORECAST"]
        assert str(runtime.get_service("station").status) == "running"  # type: ignore[union-attr]
        assert runtime.lifecycle.phase is Phase.ACTIVE


async def test_g4_the_first_message_of_an_eager_agent_is_not_slower_than_the_rest(tmp_path: Path) -> None:
    write(tmp_path, WEATHER)
    firsts, rest = [], []
    for _ in range(5):
        async with agent(CHARACTER, folder=tmp_path) as runtime:
            for number in range(20):
                began = time.perf_counter()
                await say(runtime, "forecast:", data={"city": "Rome"})
                (rest if number else firsts).append(time.perf_counter() - began)
    # The least of each: what the machine does besides cannot make a first message faster than it is.
    assert min(firsts) < 3 * sorted(rest)[len(rest) // 2] + 0.002


async def test_g1_a_wrong_setting_names_the_two(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="load is eager or lazy, not 'lasy'; did you mean lazy"):
        await started_agent("Ada", settings={"load": "lasy"})


# ── broken plugins: the other work goes on where that is possible ─────────────────────────────────
async def test_a_broken_optional_plugin_stands_in_sight_and_the_agent_works_without_it(
    tmp_path: Path,
) -> None:
    write(tmp_path, "plugin = Plugin(", manifest=False)
    heard: list[str] = []
    settings = {"optionalPlugins": ["weather"]}
    runtime = AgentRuntime(CHARACTER, folder=tmp_path, settings=settings)
    runtime.events.on("plugin:failed", lambda fields: heard.append(fields["plugin"]))
    await runtime.initialize()
    assert (await say(runtime, "hello")).status == "handled"
    assert "plugins/weather/plugin.py line 1 does not load" in runtime.broken_plugins["weather"]
    assert runtime.metrics.failures["plugin weather"] == 1
    assert heard == ["weather"]
    health = await report(runtime)
    assert (health["status"], list(health["broken"])) == ("healthy", ["weather"])
    await runtime.stop()
    with pytest.raises(PluginError, match="does not load"):
        await started_agent(CHARACTER, folder=tmp_path)


async def _fails(runtime: Any) -> None:
    raise OSError("no network")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (Plugin("bad", dependencies=["nobody"], required=False), "depends on 'nobody'"),
        (Plugin("bad", dependencies=["bad"], required=False), "bad → bad"),
        (Plugin("bad", init=_fails, required=False), "init failed: OSError: no network"),
        (Plugin("bad", start=_fails, required=False), "start failed: OSError: no network"),
        (Plugin("bad", actions=["GREET"], required=False), "actions[0] is the text 'GREET'; write Action("),  # type: ignore[list-item]
        (Plugin("bad", dependencies="db", required=False), "dependencies must be a list, not the text 'db'"),
        (Plugin("bad", priority="high", required=False), "priority must be a whole number"),  # type: ignore[arg-type]
        (Plugin("bad", events={"turn:endet": []}, required=False), "did you mean turn:ended"),
    ],
    ids=["lacks a dependency", "circle", "init", "start", "wrong type", "text for list", "priority", "event"],
)
@pytest.mark.parametrize("required", [False, True])
async def test_whatever_is_wrong_with_a_plugin_only_a_required_one_stops_the_agent(
    bad: Plugin, words: str, required: bool
) -> None:
    async def greet() -> str:
        "Greets."
        return "hello"

    good = Plugin("good", actions=[Action("GREET", greet)])
    bad.required = required
    if required:
        with pytest.raises(PluginError) as caught:
            await started_agent("Ada", good, bad)
        assert words in str(caught.value)
        return
    async with agent("Ada", bad, good) as runtime:
        assert (await say(runtime, "greet: me")).response.text == "hello"  # type: ignore[union-attr]
        assert words in runtime.broken_plugins["bad"]
        assert [plugin.name for plugin in runtime.plugins] == ["good"]


async def test_what_depends_on_a_broken_plugin_is_broken_too_and_says_by_what() -> None:
    low = Plugin("low", init=_fails, required=False)
    top = Plugin("top", dependencies=["low"], required=False)
    async with agent("Ada", low, top) as runtime:
        assert "needs low, which is broken: Plugin low: init failed" in runtime.broken_plugins["top"]
    top.required = True
    with pytest.raises(PluginError, match="Plugin top needs low, which is broken"):
        await started_agent("Ada", low, top)


async def test_an_optional_list_of_a_wrong_type_is_said() -> None:
    low = Plugin("low", init=_fails)
    with pytest.raises(PluginError, match="optionalPlugins must be a list"):
        await started_agent("Ada", low, settings={"optionalPlugins": "low"})
