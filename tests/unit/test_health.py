"""Metrics (G8), health (G10) and run ids (X6)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from swarm.agent import health, metrics
from swarm.agent.hand import current_turn
from swarm.agent.lifecycle import Phase
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Message, Provider, Service, ServiceStatus
from swarm.errors import StoreDown
from swarm.plugin import Plugin
from swarm.testing import VirtualClock, agent, eventually, others_run, say


class Clock(Service):
    service_type = "clock"


class Optional(Service):
    service_type = "optional"
    required = False

    async def start(self) -> None:
        raise OSError("no such device")


def counter() -> Plugin:
    async def count(message: Message) -> Any:
        """Counts."""
        return {"success": False, "error": "no"} if message.text == "bad" else "3"

    async def weather() -> str:
        """Knows the weather."""
        raise ValueError("no weather")

    return Plugin(
        "counter",
        actions=[Action("COUNT", count)],
        providers=[Provider("WEATHER", weather)],
        services=[Clock, Optional],
    )


async def test_g8_the_six_metrics_are_right_and_beside_them_is_only_what_models_cost() -> None:
    async with agent("Ada", counter()) as runtime:
        good = [await say(runtime, "good") for _ in range(3)]
        await say(runtime, "bad")
        told = json.loads(json.dumps(metrics.report(runtime)))
    assert set(told) == {
        "messages_processed", "average_response_time", "error_rate", "memory_usage", "active_services",
        "plugin_performance", "model_usage",
    }  # fmt: skip
    assert told["messages_processed"] == 4
    assert told["error_rate"] == 0.25
    assert told["average_response_time"] == pytest.approx(sum(one.milliseconds for one in good) / 3)
    assert told["memory_usage"] > 1_000_000
    assert told["active_services"] == 1
    performance = told["plugin_performance"]["counter"]
    assert performance["calls"] == 8, "4 times the action, 4 times the provider"
    assert performance["failures"] == 5
    assert 0 < performance["average_ms"] <= performance["slowest_ms"]


def test_metrics_of_nothing_are_zero() -> None:
    told = metrics.report(AgentRuntime({"name": "Ada", "bio": "x"}))
    assert (told["messages_processed"], told["error_rate"], told["average_response_time"]) == (0, 0, 0)


async def test_a_copy_that_changed_nothing_is_no_message() -> None:
    async with agent("Ada", counter()) as runtime:
        assert (await say(runtime, "good")).status == "handled"
        runtime.metrics.count_turn(metrics_of_a_duplicate(), "tell")
        assert metrics.report(runtime)["messages_processed"] == 1
        assert runtime.metrics.turns == 2


def metrics_of_a_duplicate() -> Any:
    from swarm.agent.hand import MessageResult

    return MessageResult(status="duplicate", run_id="x")


async def test_health_has_the_sources_shape_and_the_agents_own_uptime() -> None:
    clock = VirtualClock()
    async with agent("Ada", counter(), clock=clock, sleep=clock.sleep) as runtime:
        clock.advance(90)
        told = await runtime.health()
        assert set(told) == {"status", "uptime", "metrics", "services", "version"}
        assert told["status"] == "healthy"
        assert told["uptime"] == 90
        assert told["services"] == [
            {"name": "clock", "status": "running"},
            {"name": "optional", "status": "error"},
        ]
        assert told["version"] == runtime.character.version
        json.dumps(told)


async def test_a_store_that_is_away_makes_an_agent_unready_and_not_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def down() -> None:
        raise StoreDown("the database does not answer")

    async def hang() -> None:
        await asyncio.Event().wait()

    async with agent("Ada", counter()) as runtime:
        monkeypatch.setattr(runtime.adapter, "ping", down)
        ready = await runtime.readiness()
        assert ready.reasons == ("The store cannot be reached: the database does not answer",)
        assert runtime.liveness().well
        assert (await runtime.health())["status"] == "unhealthy"
        monkeypatch.setattr(runtime.adapter, "ping", hang)
        monkeypatch.setattr(health, "PING_SECONDS", 0.02)
        assert "did not answer" in (await runtime.readiness()).reasons[0]


async def test_a_bus_that_is_away_or_a_required_service_in_error_makes_an_agent_unready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with agent("Ada", counter()) as runtime:
        service = runtime.get_service("clock")
        assert service is not None
        service.status = ServiceStatus.ERROR
        assert (await runtime.readiness()).reasons == ("The service clock is error.",)
        service.status = ServiceStatus.RUNNING
        monkeypatch.setattr(type(runtime.peers), "connected", False)
        assert (await runtime.readiness()).reasons == ("The bus cannot be reached.",)


async def test_an_agent_that_has_not_begun_is_live_and_unready_and_one_that_stopped_is_neither() -> None:
    runtime = AgentRuntime({"name": "Ada", "bio": "x"})
    assert runtime.liveness().well
    assert (await runtime.readiness()).reasons == ("The agent is created.",)
    await runtime.stop()
    assert runtime.lifecycle.phase is Phase.STOPPED
    assert runtime.liveness().reasons == ("The agent is stopped.",)


async def test_x6_run_ids_of_concurrent_turns_never_mix() -> None:
    """X6: what runs in a turn, and what it spawns, sees that turn's run id and no other's."""
    seen: dict[str, set[str]] = {}
    together = asyncio.Barrier(8)

    def look(text: str) -> None:
        turn = current_turn()
        assert turn is not None
        assert turn.message.text == text
        seen.setdefault(text, set()).add(turn.run_id)

    async def deeper(text: str) -> None:
        await others_run()
        look(text)

    async def act(message: Message) -> str:
        """Acts."""
        look(message.text)
        await together.wait()
        look(message.text)
        async with asyncio.TaskGroup() as group:
            group.create_task(deeper(message.text))
        return message.text

    async with agent("Ada", Plugin("p", actions=[Action("ACT", act)])) as runtime:
        results = await asyncio.gather(*(say(runtime, f"m{n}", room=f"r{n}") for n in range(8)))
    assert current_turn() is None
    assert [seen[f"m{n}"] for n in range(8)] == [{result.run_id} for result in results]
    assert len({result.run_id for result in results}) == 8


async def test_a_cancelled_turn_is_cancelled_through_its_action() -> None:
    """D9: cancellation propagates; it is no failed result."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        """Hangs."""
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with agent("Ada", Plugin("p", actions=[Action("HANG", hang)])) as runtime:
        async with asyncio.TaskGroup() as group:
            turn = group.create_task(say(runtime, "hang"))
            await begun.wait()
            turn.cancel()
        assert turn.cancelled()
        assert ended.is_set()
        assert runtime.metrics.turns == 0


async def test_an_actions_own_timeout_is_not_taken_for_the_limit_of_the_framework() -> None:
    """D9: a handler that raises TimeoutError by itself failed; it did not take too long."""

    async def impatient() -> None:
        """Is impatient."""
        raise TimeoutError("the printer did not answer")

    async with agent("Ada", Plugin("p", actions=[Action("PRINT", impatient)])) as runtime:
        (result,) = (await say(runtime, "print")).actions
    assert result.reason == "exception"
    assert result.error == "TimeoutError: the printer did not answer"


async def test_plugins_stop_in_reverse_order_and_one_that_hangs_or_fails_keeps_none_from_stopping(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """P9."""
    monkeypatch.setattr("swarm.agent.runtime.HOOK_STOP_SECONDS", 0.05)
    stopped: list[str] = []

    def stopping(name: str) -> Plugin:
        async def stop() -> None:
            stopped.append(name)
            if name == "b":
                await asyncio.Event().wait()
            if name == "c":
                raise ValueError("no")

        return Plugin(name, stop=stop)

    async with agent("Ada", *map(stopping, "abcd")) as runtime:
        pass
    assert stopped == ["d", "c", "b", "a"]
    assert runtime.lifecycle.phase is Phase.STOPPED
    await eventually(lambda: runtime.liveness().reasons)
