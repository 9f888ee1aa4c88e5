"""What becomes of a message whose turn fails: through the real coordinator, mailboxes and turns, on the bus and
store in memory. Time between tries passes when the test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bus.errors import Failed
from swarm.agent.breaker import BreakerState
from swarm.components import Action, ActionOptions, Message, Provider, Service
from swarm.plugin import Plugin
from swarm.testing import VirtualClock, eventually
from tests.memory_swarm import MemorySwarm, Running, memory_swarm


class TurnedClock(VirtualClock):
    """Who sleeps on it wakes when the test has turned it far enough."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    @property
    def sleepers(self) -> int:
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        sleeper = (self.now + seconds, asyncio.Event())
        self._sleepers.append(sleeper)
        try:
            await sleeper[1].wait()
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        for due, event in self._sleepers:
            if due <= self.now:
                event.set()


def watching() -> Plugin:
    """Looks at the room, so that every turn reads it from the store: where trouble can be made."""

    async def look(state: Any) -> None:
        """Looks."""

    return Plugin("watching", providers=[Provider("ROOM", look)])


class Trouble:
    """Breaks one call of an agent's store as long as, or as often as, the test says."""

    def __init__(
        self, running: Running, call: str, *, times: float = float("inf"), late: bool = False
    ) -> None:
        self.left = times
        self.error = OSError("the disk is on fire")
        real = getattr(running.runtime.adapter, call)

        async def troubled(*args: Any, **fields: Any) -> Any:
            if self.left <= 0:
                return await real(*args, **fields)
            self.left -= 1
            if late:
                await real(*args, **fields)
            raise self.error

        setattr(running.runtime.adapter, call, troubled)


def noting(heard: list[str]) -> Plugin:
    async def note(message: Message) -> str:
        """Notes what it hears."""
        heard.append(message.text)
        return f"noted {message.text}"

    return Plugin("noting", actions=[Action("NOTE", note)])


def states(swarm: MemorySwarm, state: str) -> Callable[[], bool]:
    return lambda: any(row.state == state for row in swarm.database.deliveries.values())


@pytest.mark.parametrize("late", [False, True], ids=["before the commit", "after the commit"])
@pytest.mark.parametrize("verb", ["ask", "tell"])
async def test_a_retry_repeats_no_effect(verb: str, late: bool) -> None:
    """Fault 17. The action runs again, with the same key; memories and messages are there once."""
    keys: list[str] = []
    heard: list[str] = []

    async def charge(runtime: Any, options: ActionOptions) -> str:
        """Charges."""
        keys.append(options.key)
        await runtime.remember("charged")
        await runtime.peers.tell("scribe", "charged")
        return "charged"

    clock = VirtualClock()
    async with memory_swarm(["reader", "scribe"]) as swarm:
        reader = await swarm.start(
            "reader", watching(), Plugin("p", actions=[Action("CHARGE", charge)]), clock=clock
        )
        await swarm.start("scribe", noting(heard))
        Trouble(reader, "commit", times=1, late=late)
        await swarm.ctl(verb, agent="reader", text="go", timeout=10)
        await eventually(lambda: heard and reader.runtime.metrics.turns == 1)
        memories = await reader.runtime.adapter.get_memories()
        waiting = [row for row in swarm.database.deliveries.values() if row.state != "handled"]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert keys[0]
    assert clock.slept == [2]
    assert sorted(memory.content.text for memory in memories) == ["charged", "charged", "go"]
    assert heard == ["charged"]
    assert waiting == []


async def test_g7_what_is_given_up_is_reported_answered_told_and_dead_each_whatever_becomes_of_the_others() -> (
    None
):
    """G7. The error service fails and one administrator is unknown: the rest happens all the same."""
    reported: list[Any] = []
    told: list[Message] = []

    class Errors(Service):
        service_type = "errors"

        async def report(self, failure: Any) -> None:
            reported.append(failure)
            raise RuntimeError("the error service is broken too")

    async def note(message: Message) -> None:
        """Notes."""
        told.append(message)

    async with memory_swarm(["reader", "boss"]) as swarm:
        await swarm.start("boss", Plugin("p", actions=[Action("NOTE", note)]))
        settings = {"recovery": {"fallback": "Later, please.", "administrators": ["bos", "boss", "reader"]}}
        plugin = Plugin("errors", services=[Errors])
        reader = await swarm.start("reader", watching(), plugin, clock=VirtualClock(), settings=settings)
        trouble = Trouble(reader, "get_memories")
        reply = await swarm.ctl("ask", agent="reader", text="hello", timeout=60)
        assert reply["text"] == "Later, please."
        await eventually(lambda: len(told) == 1)
        await swarm.ctl("tell", agent="reader", text="hello")
        await eventually(states(swarm, "dead"))
        await eventually(lambda: len(told) == 2)
        dead = [row for row in swarm.database.deliveries.values() if row.state == "dead"]
    assert [row.reason for row in dead] == ["OSError: the disk is on fire"]
    assert [failure.error for failure in reported] == [trouble.error, trouble.error]
    assert [failure.tries for failure in reported] == [3, 3]
    assert told[0].content.data["alert"] == "critical_failure"
    assert told[0].content.data["error"] == "OSError: the disk is on fire"
    assert reader.runtime.metrics.given_up == 2
    assert reader.runtime.metrics.error_rate == 1.0


async def test_without_a_fallback_the_asker_gets_the_error() -> None:
    async with memory_swarm(["reader"]) as swarm:
        reader = await swarm.start("reader", watching(), noting([]), clock=VirtualClock())
        Trouble(reader, "get_memories")
        with pytest.raises(Failed, match="reader failed: OSError"):
            await swarm.ctl("ask", agent="reader", text="hello", timeout=60)


async def test_an_open_breaker_fails_asks_fast_and_keeps_deliveries_which_are_handled_when_it_has_reset() -> (
    None
):
    """Fault 4: the breaker trips, and recovers. Also for an ask that queues behind a waiting delivery."""
    heard: list[str] = []
    clock = TurnedClock()
    settings = {"recovery": {"max_retries": 5, "base": 1, "breaker_threshold": 1}}
    async with memory_swarm(["reader"]) as swarm:
        reader = await swarm.start("reader", watching(), noting(heard), clock=clock, settings=settings)
        breaker = reader.runtime.recovery.breaker
        trouble = Trouble(reader, "get_memories", times=2)
        await swarm.ctl("tell", agent="reader", text="told", room="one")
        await eventually(lambda: clock.sleepers == 1)  # after its first try
        async with asyncio.TaskGroup() as group:
            queued = group.create_task(
                _error_of(swarm.ctl("ask", agent="reader", text="a", room="one", timeout=60))
            )
            await eventually(lambda: reader.instance.mailbox and reader.instance.mailbox.queued == 1)
            clock.advance(1)  # the second try fails too: the breaker opens
        error = queued.result()
        assert isinstance(error, Failed)
        assert error.reason == "breaker_open"
        with pytest.raises(Failed, match="Too many messages failed here; ask again in 30 s"):
            await swarm.ctl("ask", agent="reader", text="b", room="two", timeout=60)
        await swarm.ctl("tell", agent="reader", text="told too", room="two")
        await eventually(lambda: clock.sleepers == 2)
        assert not (await reader.runtime.readiness()).well
        assert trouble.left == 0
        assert heard == []
        clock.advance(30)
        await eventually(lambda: sorted(heard) == ["told", "told too"])
        await eventually(lambda: breaker.state is BreakerState.CLOSED)
        assert (await swarm.ctl("ask", agent="reader", text="c", timeout=10))["text"] == "noted c"
        assert not states(swarm, "dead")()
        assert (await reader.runtime.readiness()).well


async def test_with_a_fallback_an_open_breaker_answers_it_at_once() -> None:
    clock = TurnedClock()
    settings = {"recovery": {"max_retries": 1, "breaker_threshold": 1, "fallback": "Later, please."}}
    async with memory_swarm(["reader"]) as swarm:
        reader = await swarm.start("reader", watching(), noting([]), clock=clock, settings=settings)
        Trouble(reader, "get_memories", times=2)
        replies = [await swarm.ctl("ask", agent="reader", text="hello", timeout=60) for _ in range(3)]
        assert reader.instance.mailbox is not None
        assert reader.instance.mailbox.refused["breaker_open"] == 1
    assert [reply["text"] for reply in replies] == ["Later, please."] * 3
    assert [reply["data"]["reason"] for reply in replies] == ["exception", "exception", "breaker_open"]
    assert clock.slept == []


async def test_what_rests_between_tries_is_handed_back_at_once_when_the_instance_stops() -> None:
    heard: list[str] = []
    clock = TurnedClock()
    async with memory_swarm(["reader"]) as swarm:
        reader = await swarm.start("reader", watching(), noting(heard), clock=clock)
        Trouble(reader, "get_memories")
        await swarm.ctl("tell", agent="reader", text="told")
        await eventually(lambda: clock.sleepers == 1)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(
                _error_of(swarm.ctl("ask", agent="reader", text="a", room="b", timeout=60))
            )
            await eventually(lambda: clock.sleepers == 2)
            assert await asyncio.wait_for(swarm.end("reader"), 5) == 0
        assert getattr(asked.result(), "reason", None) == "draining"
        await swarm.start("reader", watching(), noting(heard))
        await eventually(lambda: heard == ["told"])


async def _error_of(work: Any) -> BaseException | None:
    try:
        await work
    except Exception as error:
        return error
    return None
