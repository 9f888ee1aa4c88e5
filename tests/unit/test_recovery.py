"""The recovery policy and its runner (G5 to G7), without any real waiting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bus.errors import BadMessage, Refused
from swarm.agent.breaker import BreakerState
from swarm.agent.recovery import BreakerOpen, CriticalFailure, Recovery, RecoveryPolicy, policy_from
from swarm.agent.runtime import AgentRuntime
from swarm.errors import ConfigError, StoreDown, StoreError
from swarm.testing import VirtualClock


def failing(*errors: Exception | None) -> tuple[Callable[[], Any], list[int]]:
    """Work that raises these in turn, then answers ``done``; and its tries."""
    left, tries = list(errors), []

    async def work() -> str:
        tries.append(1)
        error = left.pop(0) if left else None
        if error is not None:
            raise error
        return "done"

    return work, tries


def recovery(**fields: Any) -> tuple[Recovery, VirtualClock]:
    clock = VirtualClock()
    return Recovery(RecoveryPolicy(**fields), clock=clock, sleep=clock.sleep), clock


async def test_g5_three_tries_with_two_and_four_seconds_between_and_the_answer_comes_back() -> None:
    it, clock = recovery()
    work, tries = failing(OSError("one"), OSError("two"))
    assert await it.patiently(work) == "done"
    assert len(tries) == 3
    assert clock.slept == [2, 4]
    assert it.retries == 2


async def test_a_success_resets_the_count() -> None:
    it, clock = recovery()
    for _ in range(4):
        work, _tries = failing(OSError("one"), OSError("two"))
        assert await it.at_once(work) == "done"
    assert clock.slept == [2, 4] * 4
    assert it.given_up == 0


async def test_the_third_failure_is_critical_and_keeps_the_original_error() -> None:
    it, clock = recovery()
    last = OSError("three")
    work, _ = failing(OSError("one"), OSError("two"), last)
    with pytest.raises(CriticalFailure) as caught:
        await it.patiently(work)
    assert caught.value.error is last
    assert caught.value.tries == 3
    assert caught.value.reason == "OSError: three"
    assert clock.slept == [2, 4]


async def test_jitter_only_adds_to_the_wait() -> None:
    it, clock = recovery(jitter=0.5)
    work, _ = failing(OSError("one"), OSError("two"))
    await it.patiently(work)
    assert 2 <= clock.slept[0] <= 2.5
    assert 4 <= clock.slept[1] <= 4.5


@pytest.mark.parametrize("error", [BadMessage("no content"), Refused("no"), StoreError("no such row")])
async def test_what_another_try_cannot_mend_is_not_tried_again_and_does_not_count(error: Exception) -> None:
    it, clock = recovery(breaker_threshold=1)
    for _ in range(5):
        work, tries = failing(error)
        with pytest.raises(CriticalFailure):
            await it.patiently(work)
        assert len(tries) == 1
    assert clock.slept == []
    assert it.breaker.state is BreakerState.CLOSED


async def test_a_store_that_is_away_costs_a_delivery_no_try() -> None:
    it, clock = recovery()
    work, tries = failing(*[StoreDown("away")] * 9, OSError("one"), OSError("two"))
    assert await it.patiently(work) == "done"
    assert len(tries) == 12
    assert [wait for wait in clock.slept if wait in (2, 4)] == [2, 4]
    assert max(clock.slept) == 5
    assert it.breaker.state is BreakerState.CLOSED


async def test_an_open_breaker_fails_an_ask_at_once_without_a_try_or_a_wait() -> None:
    it, clock = recovery(breaker_threshold=1)
    work, _ = failing(OSError("one"), OSError("two"))
    with pytest.raises(BreakerOpen):
        await it.at_once(work)  # its second failure opens it; there is no third try
    clock.slept.clear()
    work, tries = failing()
    with pytest.raises(BreakerOpen) as caught:
        await it.at_once(work)
    assert caught.value.reason == "breaker_open"
    assert tries == clock.slept == []
    clock.advance(30)
    assert await it.at_once(work) == "done"
    assert it.breaker.state is BreakerState.CLOSED


async def test_an_open_breaker_makes_a_delivery_wait_and_costs_it_no_try() -> None:
    it, clock = recovery(breaker_threshold=1)
    work, tries = failing(OSError("one"), OSError("two"))
    assert await it.patiently(work) == "done"
    assert len(tries) == 3
    assert clock.slept == [2, 4, pytest.approx(26)], "what was left of the reset after the wait of the try"
    assert it.breaker.trips == 1


async def test_an_ask_is_not_tried_again_past_its_deadline_nor_after_a_piece_of_its_answer() -> None:
    it, clock = recovery()
    work, tries = failing(OSError("one"), OSError("two"))
    with pytest.raises(CriticalFailure) as caught:
        await it.at_once(work, seconds=5)
    assert len(tries) == 2
    assert str(caught.value.error) == "two"
    assert clock.slept == [2]
    work, tries = failing(OSError("one"))
    with pytest.raises(CriticalFailure):
        await it.at_once(work, again=lambda: False)
    assert len(tries) == 1


def test_the_setting_is_read_once_in_either_spelling_and_from_the_character() -> None:
    setting = {
        "maxRetries": 2,
        "base": 1,
        "administrators": ["boss"],
        "fallback": "Later.",
        "reset_seconds": 5,
    }
    runtime = AgentRuntime({"name": "Ada", "bio": "x", "settings": {"recovery": setting}})
    assert runtime.recovery.policy == RecoveryPolicy(
        max_retries=2, base=1, administrators=("boss",), fallback="Later.", reset_seconds=5
    )
    assert policy_from(None) == RecoveryPolicy()
    assert RecoveryPolicy().max_retries == 3
    assert RecoveryPolicy().breaker_threshold == 10


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"maxRetires": 3}, "did you mean max_retries"),
        ({"maxRetries": 0}, "max_retries"),
        ({"administrators": "boss"}, "administrators"),
        (3, "a table"),
    ],
)
def test_a_setting_that_is_off_says_where(setting: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        policy_from(setting)
