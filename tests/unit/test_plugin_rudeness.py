"""What a plugin returns or raises may be as rude as it likes: it fails its own part, with the plugin's name."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from swarm import Action, AgentRuntime, Evaluator, Plugin, Provider, Service
from swarm.agent.models.types import TextReply
from swarm.errors import ModelError, PluginError
from swarm.plugin import ModelHandler
from swarm.testing import VirtualClock, agent, eventually, say


class Rude:
    """What a table or an array of another library may do when it is only looked at."""

    def __str__(self) -> str:
        raise ValueError("has no text")

    def __bool__(self) -> bool:
        raise ValueError("is neither true nor false")


class Fussy(msgspec.Struct):
    amount: int = 0

    def __post_init__(self) -> None:
        raise KeyError("rates")


async def going() -> str:
    return "went"


def plugin(**fields: Any) -> Plugin:
    return Plugin("rude", actions=[Action("GO", going)], **fields)


def returning(value: Any) -> Callable[[], Awaitable[Any]]:
    async def handler() -> Any:
        return value

    return handler


def raising(error: BaseException) -> Callable[[], Awaitable[None]]:
    async def handler() -> None:
        raise error

    return handler


@pytest.mark.parametrize("said", [Rude(), {"text": Rude()}], ids=["itself", "its text"])
async def test_d12_a_provider_whose_value_raises_when_it_is_read_is_left_out(
    said: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with agent("Ada", plugin(providers=[Provider("TABLE", returning(said))])) as runtime:
        result = await say(runtime, "go:")
        assert result.response is not None and result.response.text == "went"
        assert runtime.metrics.failures["provider TABLE"] == 1
    assert "provider TABLE failed: ValueError: has no text (plugin rude)" in caplog.text


async def test_d13_a_providers_data_is_handed_on_without_being_asked_whether_it_is_true() -> None:
    async with agent("Ada", plugin(providers=[Provider("TABLE", returning({"data": Rude()}))])) as runtime:
        assert (await say(runtime, "go:")).status == "handled"
        assert not runtime.metrics.failures


async def test_d1_d16_a_guard_whose_answer_is_neither_true_nor_false_excludes_its_own() -> None:
    guarded = Action("GUARDED", going, validate=returning(Rude()))
    watcher = Evaluator("WATCH", going, should_run=returning(Rude()))
    rude = Plugin("rude", actions=[guarded, Action("GO", going)], evaluators=[watcher])
    async with agent("Ada", rude) as runtime:
        assert (await say(runtime, "please")).response is not None
        await eventually(lambda: runtime.metrics.failures["evaluator WATCH"])
        assert runtime.metrics.failures["validate GUARDED"] == 1


async def test_d5_a_parameters_own_validator_that_raises_anything_is_a_wrong_parameter() -> None:
    fussy = Plugin("rude", actions=[Action("SPEND", going, parameters=Fussy), Action("GO", going)])
    async with agent("Ada", fussy) as runtime:
        named = await say(runtime, "spend:", data={"amount": 3})
        assert named.actions[0].reason == "bad_parameters"
        assert named.actions[0].error == "The parameters of action SPEND are not right: KeyError: 'rates'."
        assert (await say(runtime, "please")).actions[0].text == "went"  # it is no candidate either


@pytest.mark.parametrize("action", [5, {"name": "GO"}, True])
async def test_d3_a_program_whose_action_is_no_name_is_told_so_and_nothing_runs(action: Any) -> None:
    async with agent("Ada", plugin()) as runtime:
        result = await say(runtime, "", data={"action": action})
    assert result.response is not None and "the name of an action or a list of names" in result.response.text
    assert [one.reason for one in result.actions] == ["unknown_action"]


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), ValueError("no")], ids=repr)
async def test_b11_a_listener_of_a_plugin_harms_nobody_and_is_named(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def listener(fields: dict[str, Any]) -> None:
        raise error

    async with agent("Ada", plugin(events={"turn:started": [listener]})) as runtime:
        assert (await say(runtime, "go:")).actions[0].text == "went"
        assert runtime.metrics.failures["listener turn:started"] == 1
    assert "a listener of turn:started (plugin rude) failed" in caplog.text


@pytest.mark.parametrize("hook", ["init", "start"])
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
async def test_p7_p8_a_hook_that_would_end_the_process_is_a_broken_plugin(
    hook: str, error: BaseException
) -> None:
    with pytest.raises(PluginError, match=f"Plugin rude: {hook} failed: RuntimeError: it "):
        async with agent("Ada", plugin(**{hook: raising(error)})):
            pass


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError()], ids=repr)
async def test_p9_e5_a_stop_that_would_end_the_process_keeps_nothing_from_stopping(
    error: BaseException,
) -> None:
    stopped: list[str] = []

    class Bad(Service):
        service_type = "bad"

        async def stop(self) -> None:
            raise error

    async def stop() -> None:
        stopped.append("well")

    async with agent(
        "Ada", Plugin("well", stop=stop), plugin(services=[Bad], stop=raising(error))
    ) as runtime:
        pass
    assert stopped == ["well"] and str(runtime.lifecycle.phase) == "stopped"


async def test_e8_a_service_that_would_end_the_process_has_crashed_and_is_started_again() -> None:
    runs: list[str] = []

    class Leaving(Service):
        service_type = "leaving"

        async def run(self) -> None:
            runs.append("run")
            if len(runs) == 1:
                raise SystemExit(1)

    async with agent("Ada", plugin(services=[Leaving]), sleep=VirtualClock().sleep) as runtime:
        await eventually(lambda: len(runs) == 2)
        assert runtime.metrics.failures["service leaving"] == 1


async def test_e4_a_service_that_does_not_start_is_said_with_its_plugin_and_what_to_do() -> None:
    class Down(Service):
        service_type = "rates"

        async def start(self) -> None:
            raise OSError("no network")

    with pytest.raises(
        PluginError,
        match="Plugin rude: the service 'rates' failed to start: OSError: no network\\. Repair it, or",
    ):
        async with agent("Ada", plugin(services=[Down])):
            pass


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError("rates:80"), 69),
        (TimeoutError(), 69),
        (FileNotFoundError("x"), 78),
        (KeyError("x"), 78),
    ],
    ids=repr,
)
async def test_e4_a_service_whose_far_end_is_away_at_the_start_once_quarantined_its_agent_for_good(
    error: Exception, code: int
) -> None:
    from swarm.agent.process import _exit_code

    class Far(Service):
        service_type = "far"

        async def start(self) -> None:
            raise error

    with pytest.raises(PluginError) as failed:
        async with agent("Ada", plugin(services=[Far])):
            pass
    assert _exit_code(failed.value) == code  # 69 is started again after a while, 78 is not


async def test_e4_an_optional_plugin_whose_service_fails_goes_out_with_what_needs_it_and_the_agent_works() -> (
    None
):
    class Up(Service):
        service_type = "up"

    class Down(Service):
        service_type = "down"
        dependencies = ("up",)

        async def start(self) -> None:
            raise OSError("no network")

    down = Plugin("down", actions=[Action("DOWN", going)], services=[Up, Down], required=False)
    on_top = Plugin("on-top", actions=[Action("TOP", going)], dependencies=["down"], required=False)
    async with agent("Ada", down, on_top, plugin()) as runtime:
        assert set(runtime.broken_plugins) == {"down", "on-top"}
        assert "Plugin on-top needs down, which is broken" in runtime.broken_plugins["on-top"]
        assert list(runtime.actions) == ["GO"] and not runtime.services
        assert (await say(runtime, "go:")).actions[0].text == "went"


async def test_e6_a_restart_that_fails_leaves_error_on_the_service_and_on_what_stands_on_it() -> None:
    made: list[str] = []

    class Base(Service):
        service_type = "base"

        def __init__(self, runtime: AgentRuntime) -> None:
            super().__init__(runtime)
            made.append("base")
            if len(made) == 2:
                raise OSError("no device")

    class Above(Service):
        service_type = "above"
        dependencies = ("base",)

    async with agent("Ada", plugin(services=[Base, Above])) as runtime:
        with pytest.raises(
            PluginError, match="Plugin rude: the service 'base' cannot be made: OSError: no device"
        ):
            await runtime.restart_service("base")
        assert [str(runtime.services[name][0].status) for name in ("base", "above")] == ["error", "error"]
        await runtime.restart_service("base")
        assert [str(runtime.services[name][0].status) for name in ("base", "above")] == ["running", "running"]


async def test_b9_a_plugin_that_goes_out_leaves_a_service_that_another_brought_first() -> None:
    class Shared(Service):
        service_type = "shared"

    late = Plugin("late", services=[Shared], required=False, start=raising(ValueError("no")))
    async with agent("Ada", plugin(services=[Shared]), late) as runtime:
        assert set(runtime.broken_plugins) == {"late"}
        assert str(runtime.services["shared"][0].status) == "running"


@pytest.mark.parametrize("reply", [None, Rude(), TextReply(5)], ids=["None", "an object", "a number"])  # type: ignore[arg-type]
async def test_b8_a_text_model_that_returns_nonsense_is_named_and_nothing_of_it_is_said(reply: Any) -> None:
    async def model(request: Any) -> Any:
        return reply

    talker = Plugin("talker", models=[ModelHandler("text_large", model, "talker", 5)])
    async with agent("Ada", talker) as runtime:
        result = await say(runtime, "hello")
    assert result.response is not None
    assert (
        "The model provider 'talker' must return a TextReply or a text for text_large" in result.response.text
    )


async def test_b8_a_model_that_hangs_is_given_up_and_the_message_is_handled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def model(request: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr("swarm.agent.models.registry.CALL_SECONDS", 0.05)
    stuck = Plugin("stuck", models=[ModelHandler("text_large", model, "stuck", 5)])
    caplog.set_level(logging.WARNING)
    async with agent("Ada", stuck) as runtime:
        result = await say(runtime, "hello")
        assert result.status == "handled" and result.response is not None
        assert "'stuck' did not answer text_large within 0.05 s and was given up" in result.response.text
        with pytest.raises(ModelError) as late:
            await runtime.use_model("text_large", None)
        assert late.value.reason == "timeout"
