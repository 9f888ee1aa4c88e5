"""The circuit breaker (G6, fault 4), on a clock that the test turns."""

from __future__ import annotations

import asyncio

from swarm.agent.breaker import Breaker, BreakerState
from swarm.testing import VirtualClock, others_run

OPEN, CLOSED, HALF_OPEN = BreakerState.OPEN, BreakerState.CLOSED, BreakerState.HALF_OPEN


def breaker(clock: VirtualClock, threshold: int = 10) -> Breaker:
    return Breaker("message_processing", threshold=threshold, window=60, reset_seconds=30, clock=clock)


def fail(it: Breaker, times: int) -> None:
    for _ in range(times):
        given = it.enter()
        assert given is not None
        given.failed()


def test_g6_the_breaker_trips_at_the_eleventh_failure_and_recovers_by_one_trial() -> None:
    clock = VirtualClock()
    it = breaker(clock)
    fail(it, 10)
    assert it.state is CLOSED
    fail(it, 1)
    assert it.state is OPEN
    assert it.enter() is None
    clock.advance(29.9)
    assert it.enter() is None
    clock.advance(0.2)
    assert it.state is HALF_OPEN
    trial = it.enter()
    assert trial is not None
    assert it.enter() is None, "one trial at a time"
    trial.succeeded()
    assert it.state is CLOSED
    assert it.trips == 1
    fail(it, 10)
    assert it.state is CLOSED, "it counts from nothing again"


def test_a_failed_trial_opens_it_for_another_while() -> None:
    clock = VirtualClock()
    it = breaker(clock, 1)
    fail(it, 2)
    clock.advance(30)
    fail(it, 1)
    assert it.state is OPEN
    assert it.seconds_left() == 30
    assert it.trips == 2


def test_failures_that_are_far_apart_do_not_trip_it() -> None:
    clock = VirtualClock()
    it = breaker(clock, 1)
    for _ in range(5):
        fail(it, 1)
        clock.advance(61)
    assert it.state is CLOSED


def test_a_try_that_began_before_it_opened_changes_nothing_when_it_ends_after() -> None:
    clock = VirtualClock()
    it = breaker(clock, 1)
    early = [it.enter(), it.enter()]
    fail(it, 2)
    for given, end in zip(early, ("succeeded", "failed"), strict=True):
        getattr(given, end)()
    assert it.state is OPEN
    assert it.seconds_left() == 30


def test_a_trial_that_was_cancelled_leaves_its_place_to_the_next() -> None:
    clock = VirtualClock()
    it = breaker(clock, 1)
    fail(it, 2)
    clock.advance(30)
    trial = it.enter()
    assert trial is not None
    trial.unused()
    trial.failed()  # said too late: once is all
    assert it.state is HALF_OPEN
    assert it.enter() is not None


async def test_who_waits_for_an_open_breaker_enters_one_after_the_other() -> None:
    clock = VirtualClock()
    it = breaker(clock, 1)
    fail(it, 2)
    inside: list[int] = []

    async def one() -> None:
        given = await it.entered(clock.sleep)
        inside.append(1)
        if it.state is HALF_OPEN:
            assert sum(inside) == 1
            await others_run()
        given.succeeded()

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(one())
    assert len(inside) == 3
    assert it.state is CLOSED
