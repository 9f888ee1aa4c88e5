"""The runtime's life and registries: rows A1, A16, B1 to B11, P1 to P9, E1 to E6."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from swarm.agent.lifecycle import Lifecycle, Phase
from swarm.agent.plugins import in_order
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Service, ServiceStatus
from swarm.errors import IllegalTransition, PluginError, StoreDown
from swarm.ids import string_to_uuid
from swarm.plugin import Plugin
from swarm.testing import agent, say, started_agent


async def nothing(message: Any) -> None:
    """Does nothing."""


def recording(name: str, trace: list[str], dependencies: tuple[str, ...] = ()) -> Plugin:
    async def init(config: Any, runtime: Any) -> None:
        trace.append(f"{name}.init")

    async def start(runtime: Any) -> None:
        trace.append(f"{name}.start:{runtime.lifecycle.phase}")

    async def stop(runtime: Any) -> None:
        trace.append(f"{name}.stop")

    return Plugin(name, dependencies=dependencies, init=init, start=start, stop=stop)


def service(
    name: str, trace: list[str], needs: tuple[str, ...] = (), *, fails: bool = False, must: bool = True
) -> type:
    class Recorded(Service):
        service_type = name
        dependencies = needs
        required = must

        async def start(self) -> None:
            if fails:
                raise OSError("no such device")
            trace.append(f"{name}.start")

        async def stop(self) -> None:
            trace.append(f"{name}.stop")

    return Recorded


async def test_a_full_life_goes_through_its_phases_in_the_order_of_b3() -> None:
    """A1, B3, P8."""
    trace: list[str] = []
    plugin = recording("one", trace)
    plugin.services.append(service("clock", trace))
    runtime = AgentRuntime({"name": "Ada", "bio": "x"}, plugins=[plugin])
    assert runtime.agent_id == string_to_uuid("Ada")
    runtime.events.on("lifecycle:changed", lambda fields: trace.append(f"→ {fields['new']}"))
    await runtime.initialize()
    await runtime.stop()
    assert trace == [
        "→ initializing", "one.init", "clock.start", "one.start:initializing", "→ active",
        "→ stopping", "one.stop", "clock.stop", "→ stopped",
    ]  # fmt: skip


def test_an_illegal_transition_raises() -> None:
    """A1."""
    life = Lifecycle()
    with pytest.raises(IllegalTransition, match="created cannot become active"):
        life.to(Phase.ACTIVE)


async def test_a_second_initialize_awaits_the_first_and_services_start_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """B3, H11, fault 10."""
    trace: list[str] = []
    plugin = Plugin("one", services=[service("clock", trace)])
    runtime = AgentRuntime({"name": "Ada", "bio": "x"}, plugins=[plugin])
    await asyncio.gather(runtime.initialize(), runtime.initialize())
    await runtime.initialize()
    assert trace == ["clock.start"]
    assert "initialize() was called again" in caplog.text
    await runtime.stop()


async def test_a_failure_during_start_undoes_what_was_begun_in_reverse() -> None:
    """B3, E4."""
    trace: list[str] = []
    plugin = Plugin(
        "one",
        services=[service("a", trace), service("b", trace, ("a",)), service("c", trace, ("b",), fails=True)],
    )
    runtime = AgentRuntime({"name": "Ada", "bio": "x"}, plugins=[plugin])
    with pytest.raises(PluginError, match="'c' failed to start: OSError: no such device"):
        await runtime.initialize()
    assert trace == ["a.start", "b.start", "b.stop", "a.stop"]
    assert runtime.lifecycle.phase is Phase.FAILED


async def test_an_optional_service_that_fails_is_an_error_in_sight_and_the_agent_lives() -> None:
    """E4."""
    plugin = Plugin("one", services=[service("c", [], fails=True, must=False)])
    async with agent("Ada", plugin) as runtime:
        assert runtime.get_service("c").status is ServiceStatus.ERROR  # type: ignore[union-attr]


async def test_restarting_a_service_restarts_what_depends_on_it_and_keeps_stop_order() -> None:
    """E6."""
    trace: list[str] = []
    plugin = Plugin("one", services=[service("a", trace), service("b", trace, ("a",))])
    runtime = await started_agent("Ada", plugin)
    old = runtime.get_service("a")
    new = await runtime.restart_service("a")
    assert new is not old
    assert new is runtime.get_service("a")
    await runtime.stop()
    assert trace == ["a.start", "b.start", "b.stop", "a.stop", "a.start", "b.start", "b.stop", "a.stop"]


async def test_restarting_an_unknown_service_names_near_ones() -> None:
    """E6."""
    async with agent("Ada", Plugin("one", services=[service("clock", [])])) as runtime:
        with pytest.raises(PluginError, match="did you mean clock"):
            await runtime.restart_service("clok")


async def test_services_in_a_circle_are_named() -> None:
    """E3."""
    plugin = Plugin("one", services=[service("a", [], ("b",)), service("b", [], ("a",))])
    with pytest.raises(PluginError, match="a → b → a"):
        await started_agent("Ada", plugin)


def test_plugins_register_after_what_they_depend_on_and_ties_keep_their_order() -> None:
    """P1."""
    plugins = [Plugin("c", dependencies=["a"]), Plugin("b"), Plugin("a", dependencies=["z"]), Plugin("z")]
    assert [plugin.name for plugin in in_order(plugins)] == ["b", "z", "a", "c"]


def test_p2_p3_a_missing_or_circular_dependency_is_an_error_that_names_it() -> None:
    """P2, P3, fault 16."""
    with pytest.raises(PluginError, match=r"depends on 'readr'.*did you mean reader"):
        in_order([Plugin("a", dependencies=["readr"]), Plugin("reader")])
    with pytest.raises(PluginError, match="a → b → a"):
        in_order([Plugin("a", dependencies=["b"]), Plugin("b", dependencies=["a"])])


async def test_an_unknown_plugin_in_a_character_says_where_it_looked(tmp_path: Any) -> None:
    """B2."""
    runtime = AgentRuntime({"name": "Ada", "bio": "x", "plugins": ["nowhere"]}, folder=tmp_path)
    with pytest.raises(PluginError, match=r"no plugin 'nowhere'.*the folder .* and the entry points"):
        await runtime.initialize()


async def test_a_plugin_whose_action_is_taken_registers_nothing_at_all() -> None:
    """B5."""
    first = Plugin("first", actions=[Action("GREET", nothing)])
    second = Plugin("second", actions=[Action("WAVE", nothing), Action("GREET", nothing)])
    runtime = AgentRuntime({"name": "Ada", "bio": "x"}, plugins=[first])
    await runtime.initialize()
    with pytest.raises(PluginError, match="Action GREET already registered"):
        await runtime.register_plugin(second)
    assert list(runtime.actions) == ["GREET"]
    assert [plugin.name for plugin in runtime.plugins] == ["first"]
    await runtime.stop()


async def test_p6_registering_a_plugin_again_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """P6."""
    plugin = Plugin("one", actions=[Action("GREET", nothing)])
    async with agent("Ada", plugin) as runtime:
        await runtime.register_plugin(plugin)
        assert len(runtime.plugins) == 1
    assert "registered already" in caplog.text


async def test_p6_a_second_plugin_of_a_name_is_left_out_and_said_which_was_once_silent(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "plugin.py").write_text("from swarm import Plugin\n\nplugin = Plugin('one')\n")
    first = Plugin("one", actions=[Action("GREET", nothing)])
    async with agent("Ada", first, folder=tmp_path) as runtime:
        assert runtime.plugins == (first,)
    assert (
        f"there is a plugin one already, of the plugins given to the runtime; the one of {tmp_path}"
        in caplog.text
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("plugin = Plugin(", "line 1 does not load: SyntaxError"),
        (
            "import nowhere_at_all",
            "line 1 does not load: ModuleNotFoundError: No module named 'nowhere_at_all'. Install nowhere_at_all, or",
        ),
        ("x = 1\ny = 1 / 0", "line 2 does not load: ZeroDivisionError"),
        ("other = 1", "must have a variable `plugin = Plugin"),
        ("plugin = 7", "it has int"),
        ("import sys; sys.exit(3)", "does not load: SystemExit"),
    ],
)
async def test_a_plugin_file_that_does_not_load_is_named_with_its_line(
    tmp_path: Any, code: str, words: str
) -> None:
    (tmp_path / "plugin.py").write_text(code)
    runtime = AgentRuntime({"name": "Ada", "bio": "x"}, folder=tmp_path)
    with pytest.raises(PluginError, match=r"plugin\.py") as caught:
        await runtime.initialize()
    assert words in str(caught.value)


async def test_a_folders_files_import_each_other_relatively(tmp_path: Any) -> None:
    (tmp_path / "words.py").write_text("GREETING = 'hello'")
    (tmp_path / "plugin.py").write_text(
        "from swarm import Plugin\nfrom .words import GREETING\nplugin = Plugin('p')\n"
        "@plugin.action()\nasync def greet(message):\n    'Greets.'\n    return GREETING\n"
    )
    async with agent("Ada", folder=tmp_path) as runtime:
        assert (await say(runtime, "greet: me")).response.text == "hello"  # type: ignore[union-attr]


async def test_stopping_ends_even_when_a_plugin_fails_to_stop() -> None:
    """P9."""
    trace: list[str] = []

    async def bad(runtime: Any) -> None:
        raise RuntimeError("no")

    runtime = await started_agent("Ada", recording("one", trace), Plugin("two", stop=bad))
    await runtime.stop()
    assert trace[-1] == "one.stop"
    assert runtime.lifecycle.phase is Phase.STOPPED


async def test_an_agent_whose_store_is_down_fails_as_the_store_says() -> None:
    runtime = AgentRuntime({"name": "Ada", "bio": "x"})
    runtime.adapter._database.down = True  # type: ignore[attr-defined]
    with pytest.raises(StoreDown):
        await runtime.initialize()
    assert runtime.lifecycle.phase is Phase.FAILED


async def test_one_listener_that_fails_stops_neither_the_others_nor_the_emitter() -> None:
    """B11."""
    heard: list[str] = []

    def bad(fields: Any) -> None:
        raise ValueError("no")

    async with agent("Ada") as runtime:
        runtime.events.on("turn:ended", bad)
        off = runtime.events.on("turn:ended", lambda fields: heard.append(fields["status"]))
        await say(runtime, "hello")
        off()
        await say(runtime, "hello again")
    assert heard == ["handled"]
