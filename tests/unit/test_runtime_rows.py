"""The runtime core, plugins and services, row by row: B1 to B13, P1 to P15, E1 to E7; faults 10, 11, 16.

Rows that stand in a file of their own: B3 and most of E in test_runtime.py and test_services_kept.py, B4 in
tests/contract/stores, B12 and P10 to P13 in test_turn.py, P14 in test_gallery_chronicler.py, E2 in the gallery's
bridge, G1 to G4 in test_lazy_plugins.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from swarm.agent.plugins import ENTRY_POINTS
from swarm.agent.runtime import CONVERSATION_LENGTH, AgentRuntime
from swarm.components import Action, Evaluator, Provider, Service, ServiceStatus
from swarm.errors import ModelError, PluginError, UsageError
from swarm.ids import string_to_uuid
from swarm.plugin import ModelHandler, Plugin
from swarm.testing import agent, eventually, others_run, say, started_agent

ADA = {"name": "Ada", "bio": "x"}


async def nothing() -> None:
    """Does nothing."""


class Clock(Service):
    service_type = "clock"
    trace: list[str]

    async def start(self) -> None:
        self.seen = [self.status]

    async def stop(self) -> None:
        self.seen.append(self.status)


async def test_b1_what_is_registered_is_there_to_read_and_only_to_read() -> None:
    async def model(request: Any) -> str:
        return "x"

    plugin = Plugin(
        "p", actions=[Action("A", nothing)], providers=[Provider("P", nothing)],
        evaluators=[Evaluator("E", nothing)], services=[Clock], models=[ModelHandler("odd", model, "p")],
    )  # fmt: skip
    async with agent("Ada", plugin) as runtime:
        assert runtime.agent_id == string_to_uuid("Ada") == runtime.character.id
        assert runtime.adapter is runtime.store
        assert list(runtime.actions) == ["A"]
        assert [one.name for one in (*runtime.providers, *runtime.evaluators)] == ["P", "E"]
        assert runtime.plugins == (plugin,)
        assert [type(one) for one in runtime.services["clock"]] == [Clock]
        assert isinstance(runtime.models, Mapping)
        assert [one.handler for one in runtime.models["odd"]] == [model]
        for view in (runtime.actions, runtime.services, runtime.models):
            with pytest.raises(TypeError):
                view["x"] = 1  # type: ignore[index]


async def test_b2_constructing_does_no_io_and_names_the_logger(tmp_path: Any) -> None:
    (tmp_path / "plugin.py").write_text("raise SystemExit('this was imported')")
    runtime = AgentRuntime({**ADA, "plugins": ["nowhere"]}, folder=tmp_path)
    assert runtime.log.name == "swarm.agent.ada"
    assert runtime.plugins == ()


@pytest.mark.parametrize(
    ("register", "kind"),
    [("register_action", Action), ("register_provider", Provider), ("register_evaluator", Evaluator)],
    ids=["b5", "b6", "b7"],
)
async def test_b5_b6_b7_a_name_is_taken_once(register: str, kind: Any) -> None:
    async with agent("Ada") as runtime:
        first = kind("X", nothing)
        getattr(runtime, register)(first)
        with pytest.raises(PluginError, match=f"{kind.__name__} X already registered"):
            getattr(runtime, register)(kind("X", nothing))
        held = {Action: [*runtime.actions.values()], Provider: runtime.providers}.get(
            kind, runtime.evaluators
        )
        assert [*held] == [first]


async def test_b8_the_highest_priority_serves_and_an_unknown_type_is_named() -> None:
    def model(answer: str) -> Any:
        async def serve(params: Any) -> str:
            return f"{answer} {params}"

        return serve

    async with agent("Ada") as runtime:
        runtime.register_model("riddle", model("low"), "one")
        runtime.register_model("riddle", model("tie"), "two")
        assert await runtime.use_model("riddle", 1) == "low 1"
        runtime.register_model("riddle", model("high"), "three", 5)
        assert await runtime.use_model("riddle", 1) == "high 1"
        assert await runtime.use_model("riddle", 1, provider="two") == "tie 1"
        with pytest.raises(ModelError, match=r"No model of type 'ridle'.*did you mean riddle"):
            await runtime.use_model("ridle", 1)


async def test_b9_registering_a_service_twice_at_once_makes_one() -> None:
    async with agent("Ada") as runtime:
        one, two = await asyncio.gather(runtime.register_service(Clock), runtime.register_service(Clock))
        assert one is two
        assert runtime.services["clock"] == [one]
        assert one.status is ServiceStatus.RUNNING


async def test_b10_a_service_is_found_by_its_type_or_is_none() -> None:
    async with agent("Ada", Plugin("p", services=[Clock])) as runtime:
        assert isinstance(runtime.get_service("clock"), Clock)
        assert runtime.get_services("clock") == [runtime.get_service("clock")]
        assert runtime.get_service("nothing") is None
        assert runtime.get_services("nothing") == []


async def test_b11_listeners_may_be_async_leave_and_fail_alone() -> None:
    heard: list[Any] = []

    async def slow(fields: dict[str, Any]) -> None:
        await others_run()
        heard.append(fields["message"])

    def bad(fields: dict[str, Any]) -> None:
        raise ValueError("no")

    async with agent("Ada") as runtime:
        runtime.events.on("message:external", bad)
        off = runtime.events.on("message:external", slow)
        await runtime.events.emit("message:external", message="one", source="test")
        off()
        off()
        await runtime.events.emit("message:external", message="two", source="test")
        with pytest.raises(UsageError, match="did you mean message:send"):
            runtime.events.on("message:sent", slow)
    assert heard == ["one"]


async def test_b13_the_length_of_the_conversation_is_settable() -> None:
    seen: list[int] = []

    async def look(state: Any) -> None:
        "Looks."
        seen.append(len(state.messages))

    assert AgentRuntime(ADA).conversation_length == CONVERSATION_LENGTH == 32
    async with agent("Ada", Plugin("p", actions=[Action("LOOK", look)]), conversation_length=2) as runtime:
        for _ in range(5):
            await say(runtime, "look: here")
    assert max(seen) == 3  # two of the past and the message itself


class Entry:
    """An installed plugin, as importlib.metadata describes it."""

    module = "nowhere_at_all_x"

    def __init__(self, name: str, brings: Any, opened: list[str]) -> None:
        self.name, self.value, self._brings, self._opened = name, f"{self.module}:{name}", brings, opened

    def load(self) -> Any:
        self._opened.append(self.name)
        if isinstance(self._brings, Exception):
            raise self._brings
        return self._brings


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> tuple[dict[str, Any], list[str]]:
    plugins: dict[str, Any] = {}
    opened: list[str] = []

    def entry_points(*, group: str) -> list[Entry]:
        assert group == ENTRY_POINTS
        return [Entry(name, plugin, opened) for name, plugin in plugins.items()]

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return plugins, opened


async def test_p1_p2_what_is_missing_is_pulled_from_what_is_installed_each_once(installed: Any) -> None:
    plugins, opened = installed
    plugins["a"] = Plugin("a", dependencies=["c", "b"])
    plugins["b"] = Plugin("b", dependencies=["c"])
    plugins["c"] = Plugin("c")
    plugins["unwanted"] = Plugin("unwanted")
    async with agent({**ADA, "plugins": ["a", "b"]}) as runtime:
        assert [plugin.name for plugin in runtime.plugins] == ["c", "b", "a"]
    assert sorted(opened) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("brings", "words"),
    [
        (ImportError("no module named x"), r"Plugin 'a' .* does not load: ImportError: no module named x"),
        (7, "The entry point 'a' is a int, not a Plugin"),
        (Plugin("other"), "'a' of the entry point .* calls itself 'other'"),
    ],
)
async def test_b2_an_installed_plugin_that_is_wrong_is_named(installed: Any, brings: Any, words: str) -> None:
    installed[0]["a"] = brings
    with pytest.raises(PluginError, match=words):
        await started_agent({**ADA, "plugins": ["a"]})
    async with agent({**ADA, "plugins": ["a"]}, settings={"optionalPlugins": ["*"]}) as runtime:
        assert (await say(runtime, "hello")).status == "handled"
        assert list(runtime.broken_plugins) == ["a"]


async def test_b2_an_unknown_plugin_has_near_names_and_may_be_optional(installed: Any) -> None:
    installed[0]["weather"] = Plugin("weather")
    character = {**ADA, "plugins": ["wether"]}
    with pytest.raises(
        PluginError, match=r"no plugin 'wether'; did you mean weather\? I looked in the entry"
    ):
        await started_agent(character)
    async with agent(character, settings={"optionalPlugins": ["wether"]}) as runtime:
        assert "wether" in runtime.broken_plugins


async def test_p4_p7_p15_a_plugin_is_registered_in_its_order_with_its_config() -> None:
    trace: list[str] = []

    class Seen(Service):
        service_type = "seen"

        def __init__(self, runtime: AgentRuntime) -> None:
            super().__init__(runtime)
            trace.append(f"services, {len(runtime.actions)} actions")

    async def init(config: Any, runtime: Any) -> None:
        trace.append(f"init {dict(config)} {runtime.get_service('seen')}")

    plugin = Plugin("p", init=init, services=[Seen], actions=[Action("A", nothing)])
    fields = (
        plugin.priority,
        plugin.routes,
        plugin.events,
        plugin.dependencies,
        plugin.optional_dependencies,
    )
    assert fields == (0, (), {}, (), ())
    runtime = AgentRuntime(ADA, plugins=[plugin])
    runtime.events.on(
        "plugin:registered", lambda _: trace.append(f"appended, {len(runtime.actions)} actions")
    )
    await runtime.initialize()
    await runtime.register_plugin(plugin)
    assert trace == ["init {} None", "services, 0 actions", "appended, 1 actions"]
    await runtime.stop()


async def test_p5_p8_p9_plugins_begin_and_end_one_after_the_other() -> None:
    """P5, P8, P9, faults 10 and 11: also when one is slow, or fails at its stop."""
    trace: list[str] = []

    def plugin(name: str, *needs: str, waits: int) -> Plugin:
        one = Plugin(name, dependencies=needs, services=[type(name, (Clock,), {"service_type": name})])

        async def begins(what: str) -> None:
            trace.append(f"{name}.{what}")
            await others_run(waits)
            trace.append(f"{name}.{what} ended")

        @one.hook
        async def init(config: Any) -> None:
            await begins("init")

        @one.hook
        async def start(runtime: AgentRuntime) -> None:
            assert not runtime.is_initialized
            assert {str(each.status) for [each] in runtime.services.values()} == {"running"}
            await begins("start")

        @one.hook
        async def stop() -> None:
            trace.append(f"{name}.stop")
            raise RuntimeError("no")

        return one

    runtime = await started_agent("Ada", plugin("b", "a", waits=0), plugin("a", waits=9))
    await runtime.stop()
    assert trace == [
        *("a.init", "a.init ended", "b.init", "b.init ended"),
        *("a.start", "a.start ended", "b.start", "b.start ended"),
        *("b.stop", "a.stop"),
    ]


async def test_p9_a_stop_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.agent.registering.HOOK_STOP_SECONDS", 0.02)
    stopped: list[str] = []

    async def hang() -> None:
        await asyncio.Event().wait()

    async def stop() -> None:
        stopped.append("first")

    runtime = await started_agent("Ada", Plugin("first", stop=stop), Plugin("second", stop=hang))
    await asyncio.wait_for(runtime.stop(), 5)
    assert stopped == ["first"]


async def test_p7_an_init_that_hangs_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.agent.registering.HOOK_START_SECONDS", 0.02)

    async def hang() -> None:
        await asyncio.Event().wait()

    with pytest.raises(PluginError, match=r"Plugin p: init did not end within 0\.02 s"):
        await started_agent("Ada", Plugin("p", init=hang))


async def test_b5_a_plugin_whose_service_cannot_be_made_leaves_nothing_behind() -> None:
    class Bad(Service):
        service_type = "bad"

        def __init__(self, runtime: AgentRuntime) -> None:
            raise OSError("no device")

    async with agent("Ada") as runtime:
        with pytest.raises(
            PluginError, match="Plugin p: the service 'bad' cannot be made: OSError: no device"
        ):
            await runtime.register_plugin(
                Plugin("p", services=[Clock, Bad], actions=[Action("A", nothing)], init=nothing)
            )
        assert not runtime.services
        assert not runtime.actions
        assert not runtime.plugins


async def test_p8_a_plugin_that_comes_late_is_started_before_its_actions_are_seen() -> None:
    seen: list[Any] = []

    async def start(runtime: AgentRuntime) -> None:
        seen.append((str(runtime.get_service("clock").status), list(runtime.actions)))  # type: ignore[union-attr]

    async def fails(runtime: AgentRuntime) -> None:
        raise OSError("no")

    actions = [Action("A", nothing)]
    runtime = await started_agent("Ada")
    with pytest.raises(PluginError, match="start failed: OSError: no"):
        await runtime.register_plugin(Plugin("p", services=[Clock], actions=actions, start=fails))
    assert not runtime.services
    await runtime.register_plugin(Plugin("p", services=[Clock], actions=actions, start=start))
    clock = runtime.get_service("clock")
    assert seen == [("running", [])]
    assert list(runtime.actions) == ["A"]
    await runtime.stop()
    assert clock is not None
    assert clock.status is ServiceStatus.STOPPED


async def test_p15_what_a_plugin_listens_to_and_serves_is_wired() -> None:
    heard: list[str] = []
    plugin = Plugin("p")

    @plugin.on("turn:ended")
    async def ended(fields: Any) -> None:
        heard.append(fields["status"])

    @plugin.model("riddle")
    async def riddle(request: Any) -> str:
        return f"{request}?"

    async with agent("Ada", plugin) as runtime:
        await say(runtime, "hello")
        assert await runtime.use_model("riddle", "why", provider="p") == "why?"
        await eventually(lambda: heard == ["handled"])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda p: p.hook(_named("before_mesage")), "no hook 'before_mesage'; did you mean before_message"),
        (lambda p: p.action(nothing), r"write @plugin\.action\(\) with its parentheses"),
        (lambda p: p.service(int), "a service is a class derived from Service"),
        (lambda p: (p.hook(_named("stop")), p.hook(_named("stop"))), "has a hook stop already"),
    ],
)
def test_p15_a_slip_of_the_pen_is_said_when_it_is_made(write: Any, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        write(Plugin("p"))


def _named(name: str) -> Any:
    async def hook() -> None:
        """A hook."""

    hook.__name__ = name
    return hook


async def test_p15_a_hook_that_asks_for_what_it_cannot_have_is_named() -> None:
    async def before(mesage: Any) -> None:
        """Misspelt."""

    with pytest.raises(
        PluginError, match=r"hook before_message of plugin p asks for 'mesage'.*did you mean message"
    ):
        await started_agent("Ada", Plugin("p", before_message=before))


async def test_e1_the_status_of_a_service_is_the_frameworks_to_set() -> None:
    changes: list[str] = []
    runtime = AgentRuntime(ADA, plugins=[Plugin("p", services=[Clock])])
    runtime.events.on("service:status", lambda fields: changes.append(fields["status"]))
    await runtime.initialize()
    clock: Any = runtime.get_service("clock")
    await runtime.stop()
    assert changes == ["starting", "running", "stopping", "stopped"]
    assert clock.seen == ["starting", "stopping"]


async def test_e3_e4_a_service_that_never_starts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swarm.agent.services.START_SECONDS", 0.02)

    class Hangs(Service):
        service_type = "hangs"
        required = False

        async def start(self) -> None:
            await asyncio.Event().wait()

    async with agent("Ada", Plugin("p", services=[Hangs, Clock])) as runtime:
        assert runtime.get_service("hangs").status is ServiceStatus.ERROR  # type: ignore[union-attr]
        assert runtime.get_service("clock").status is ServiceStatus.RUNNING  # type: ignore[union-attr]


async def test_e3_a_service_that_depends_on_what_is_not_there_is_named() -> None:
    kind = type("Needy", (Clock,), {"service_type": "needy", "dependencies": ("clok",)})
    with pytest.raises(
        PluginError, match="'needy' depends on 'clok', which is not registered; did you mean clock"
    ):
        await started_agent("Ada", Plugin("p", services=[kind, Clock]))


async def test_e5_e7_one_registry_is_empty_after_the_stop_even_when_one_fails() -> None:
    stopped: list[str] = []

    class Bad(Clock):
        service_type = "bad"

        async def stop(self) -> None:
            raise OSError("no")

    class Good(Clock):
        service_type = "good"

        async def stop(self) -> None:
            stopped.append("good")

    runtime = await started_agent("Ada", Plugin("p", services=[Good, Bad]))
    await runtime.stop()
    assert stopped == ["good"]
    assert not runtime.services
    assert runtime.get_service("good") is None


async def test_e6_a_restart_that_fails_leaves_the_new_one_in_error() -> None:
    class Once(Clock):
        service_type = "once"
        starts = 0

        async def start(self) -> None:
            type(self).starts += 1
            if self.starts == 2:
                raise OSError("gone")

    async with agent("Ada", Plugin("p", services=[Once])) as runtime:
        old = runtime.get_service("once")
        with pytest.raises(PluginError, match="'once' failed to start: OSError: gone"):
            await runtime.restart_service("once")
        new = runtime.get_service("once")
        assert new is not old
        assert new is not None
        assert new.status is ServiceStatus.ERROR
        assert (await runtime.restart_service("once")).status is ServiceStatus.RUNNING
