"""A background service that crashes restarts with backoff, and is given up when it crashes too often (E8)."""

from __future__ import annotations

import asyncio
from typing import Any

from swarm.agent.services import CRASHES
from swarm.components import Service, ServiceStatus
from swarm.plugin import Plugin
from swarm.testing import VirtualClock, agent, eventually


def pulse(trace: list[str], crashes: float, *, start_fails: tuple[int, ...] = ()) -> type[Service]:
    """A service whose `run` raises so many times, then goes on for ever."""
    made = {"starts": 0, "crashes": 0}

    class Pulse(Service):
        service_type = "pulse"

        async def start(self) -> None:
            made["starts"] += 1
            if made["starts"] in start_fails:
                raise OSError("not yet")
            trace.append("pulse.start")

        async def run(self) -> None:
            if made["crashes"] < crashes:
                made["crashes"] += 1
                raise ConnectionError("gone")
            trace.append("pulse.run")
            try:
                await asyncio.Event().wait()
            finally:
                trace.append("pulse.cancelled")

        async def stop(self) -> None:
            trace.append("pulse.stop")

    return Pulse


def on_top(trace: list[str]) -> type[Service]:
    class OnTop(Service):
        service_type = "top"
        dependencies = ("pulse",)

        async def start(self) -> None:
            trace.append("top.start")

        async def run(self) -> None:
            await asyncio.Event().wait()

        async def stop(self) -> None:
            trace.append("top.stop")

    return OnTop


async def test_a_service_that_crashes_is_made_anew_with_what_depends_on_it() -> None:
    trace: list[str] = []
    clock = VirtualClock()
    plugin = Plugin("p", services=[pulse(trace, 1), on_top(trace)])
    async with agent("Ada", plugin, clock=clock, sleep=clock.sleep) as runtime:
        first = runtime.get_service("pulse")
        statuses: list[Any] = []
        runtime.events.on("service:status", lambda told: statuses.append((told["service"], told["status"])))
        await eventually(lambda: "pulse.run" in trace)
        assert runtime.get_service("pulse") is not first
        assert runtime.metrics.failures["service pulse"] == 1
        assert (await runtime.readiness()).well
    assert ("pulse", "error") in statuses
    assert clock.slept == [0.5]
    assert trace == [
        "pulse.start", "top.start", "top.stop", "pulse.stop", "pulse.start", "top.start", "pulse.run",
        "pulse.cancelled", "top.stop", "pulse.stop",
    ]  # fmt: skip


async def test_the_wait_doubles_and_after_its_last_crash_it_stays_in_error_in_sight() -> None:
    clock = VirtualClock()
    plugin = Plugin("p", services=[pulse([], float("inf"))])
    async with agent("Ada", plugin, clock=clock, sleep=clock.sleep) as runtime:
        await eventually(lambda: runtime.metrics.failures["service pulse"] == CRASHES)
        await eventually(lambda: _status(runtime) is ServiceStatus.ERROR)
        assert clock.slept == [0.5, 1, 2, 4, 8, 16, 30]
        assert (await runtime.readiness()).reasons == ("The service pulse is error.",)
        assert runtime.liveness().well
        await runtime.restart_service("pulse")  # by hand it can be tried again


async def test_crashes_that_are_far_apart_do_not_end_it() -> None:
    trace: list[str] = []
    clock = VirtualClock()

    async def slowly(seconds: float) -> None:
        await clock.sleep(seconds)
        clock.advance(301)

    plugin = Plugin("p", services=[pulse(trace, CRASHES * 2)])
    async with agent("Ada", plugin, clock=clock, sleep=slowly) as runtime:
        await eventually(lambda: "pulse.run" in trace)
        assert clock.slept == [0.5] * (CRASHES * 2)
        assert _status(runtime) is ServiceStatus.RUNNING


async def test_a_restart_that_fails_is_tried_again() -> None:
    trace: list[str] = []
    clock = VirtualClock()
    plugin = Plugin("p", services=[pulse(trace, 1, start_fails=(2, 3))])
    async with agent("Ada", plugin, clock=clock, sleep=clock.sleep) as runtime:
        await eventually(lambda: "pulse.run" in trace)
        assert clock.slept == [0.5, 1, 2]
        assert _status(runtime) is ServiceStatus.RUNNING


async def test_a_stop_ends_a_service_that_waits_for_its_restart() -> None:
    async def never(seconds: float) -> None:
        waiting.set()
        await asyncio.Event().wait()

    waiting = asyncio.Event()
    async with agent("Ada", Plugin("p", services=[pulse([], 1)]), sleep=never) as runtime:
        await asyncio.wait_for(waiting.wait(), 10)
    assert runtime.services == {}


async def test_a_service_whose_work_is_done_stays_up() -> None:
    ran = asyncio.Event()

    class Once(Service):
        service_type = "once"

        async def run(self) -> None:
            ran.set()

    async with agent("Ada", Plugin("p", services=[Once])) as runtime:
        await asyncio.wait_for(ran.wait(), 10)
        assert runtime.get_service("once").status is ServiceStatus.RUNNING  # type: ignore[union-attr]


def _status(runtime: Any) -> ServiceStatus:
    status: ServiceStatus = runtime.get_service("pulse").status
    return status
