"""What an agent does when handling a message fails: a policy, not a subclass (G5 to G7).

    try      up to `max_retries` times, with base¹, base², … s between; each try is the whole turn again,
             with the same message id, so the ids it mints are the same: no second memory, no second
             message, and `options.key` is equal on every try
    break    too many failed tries open the breaker: asks fail at once, deliveries wait
    give up  `CriticalFailure`: see `critical.py` for what follows

Only what escapes from a turn is a failure. What a plugin's handler raises is contained, and its answer
says so; it is not tried again here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.stop import stop_base
from tenacity.wait import wait_base, wait_exponential, wait_random

from bus.errors import BadMessage, Failed, Refused
from swarm.agent.breaker import Breaker, Rest, Sleep, rest
from swarm.errors import ConfigError, StoreDown, StoreError, Unknown, near

log = logging.getLogger(__name__)

T = TypeVar("T")

BREAKER: Final = "message_processing"
STORE_WAIT: Final = 0.1
LONGEST_STORE_WAIT: Final = 5.0

Seconds = Annotated[float, Meta(ge=0, le=3600)]


class RecoveryPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The setting ``recovery``, of the character or of swarm.toml; its keys also in camelCase.

    `max_retries` counts tries, the first included. `jitter` adds up to so many seconds to each wait.
    The breaker opens at more than `breaker_threshold` failed tries within `window_seconds`, for
    `reset_seconds`. `fallback` answers an ask that failed; without it the asker gets the error.
    `administrators` are agents, or addresses of agents, that are told what was given up.
    """

    max_retries: Annotated[int, Meta(ge=1, le=10)] = 3
    base: Annotated[float, Meta(ge=0, le=10)] = 2.0
    jitter: Seconds = 0.0
    longest_wait: Seconds = 60.0
    breaker_threshold: Annotated[int, Meta(ge=1, le=10_000)] = 10
    window_seconds: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    reset_seconds: Annotated[float, Meta(gt=0, le=3600)] = 30.0
    fallback: str | None = None
    administrators: tuple[Annotated[str, Meta(min_length=1, max_length=63)], ...] = ()

    @property
    def wait(self) -> wait_base:
        """2 and 4 s for a base of 2."""
        growing = wait_exponential(multiplier=self.base, exp_base=self.base, max=self.longest_wait)
        return growing + wait_random(0, self.jitter) if self.jitter else growing


def policy_from(setting: Any) -> RecoveryPolicy:
    """The policy that a setting asks for; None is the default. Raises ConfigError, with near names."""
    if setting is None:
        return RecoveryPolicy()
    if not isinstance(setting, Mapping):
        raise ConfigError("The setting recovery is a table of settings, such as {maxRetries: 3}.")
    known = RecoveryPolicy.__struct_fields__
    given = {_snake(str(key)): value for key, value in setting.items()}
    for key in given:
        if key not in known:
            raise ConfigError(f"recovery.{key} is not a setting{near(key, known)}")
    try:
        return msgspec.convert(given, RecoveryPolicy)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The setting recovery is not valid: {error}.") from None


class CriticalFailure(Exception):
    """Given up. `error` is the original one, as it was raised; `tries` is how often it was tried."""

    def __init__(self, error: Exception, tries: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.tries = tries

    @property
    def reason(self) -> str:
        """The original error in one line, for a dead letter."""
        if isinstance(self.error, (BadMessage, StoreError, Refused)):
            return str(self.error)
        return f"{type(self.error).__name__}: {self.error}"


class BreakerOpen(Failed):
    """Refused by the breaker, at once."""


def is_hopeless(error: BaseException) -> bool:
    """What another try cannot mend: it is refused, or it is no message."""
    if isinstance(error, StoreError):
        return not isinstance(error, (StoreDown, Unknown))
    return isinstance(error, (BadMessage, Refused, BreakerOpen))


class Recovery:
    """A policy at work: the runner and its breaker. One for each runtime."""

    def __init__(
        self,
        policy: RecoveryPolicy,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.policy = policy
        self.retries = 0
        self.given_up = 0
        self.clock = clock
        self.sleep = sleep
        self.breaker = Breaker(
            BREAKER,
            threshold=policy.breaker_threshold,
            window=policy.window_seconds,
            reset_seconds=policy.reset_seconds,
            clock=clock,
        )

    async def patiently(self, work: Callable[[], Awaitable[T]], *, rest: Rest = rest) -> T:
        """For what the ledger holds: waits for the breaker and for the store as long as it takes; neither
        is a try. All waiting goes through `rest`. Raises CriticalFailure."""

        async def attempt() -> T:
            wait = STORE_WAIT
            while True:
                given = await self.breaker.entered(self.sleep, rest)
                try:
                    done = await work()
                except (StoreDown, Unknown) as error:
                    given.unused()
                    log.warning("the store is not there (%s); trying again", error)
                    await rest(self.sleep(wait))
                    wait = min(wait * 2, LONGEST_STORE_WAIT)
                except Exception as error:
                    given.unused() if is_hopeless(error) else given.failed()
                    raise
                else:
                    given.succeeded()
                    return done
                finally:
                    given.unused()

        return await self._retry(attempt, rest, stop_after_attempt(self.policy.max_retries))

    async def persistently(self, work: Callable[[], Awaitable[T]], *, rest: Rest = rest) -> T:
        """For what needs only the store: waits until it is there. Raises what else `work` raises."""
        wait = STORE_WAIT
        while True:
            try:
                return await work()
            except (StoreDown, Unknown) as error:
                log.warning("the store is not there (%s); trying again", error)
                await rest(self.sleep(wait))
                wait = min(wait * 2, LONGEST_STORE_WAIT)

    async def at_once(
        self,
        work: Callable[[], Awaitable[T]],
        *,
        seconds: float | None = None,
        again: Callable[[], bool] = lambda: True,
        rest: Rest = rest,
    ) -> T:
        """For an asker who waits, for `seconds` at most: an open breaker is BreakerOpen at once, and a wait
        that would outlast the asker is not begun. `again` says whether another try may be made.
        Raises CriticalFailure."""

        async def attempt() -> T:
            given = self.breaker.enter()
            if given is None:
                raise self.refusal()
            try:
                done = await work()
            except Exception as error:
                given.unused() if is_hopeless(error) else given.failed()
                raise
            else:
                given.succeeded()
                return done
            finally:
                given.unused()

        ends = None if seconds is None else self.clock() + seconds
        stop = stop_after_attempt(self.policy.max_retries) | _Otherwise(
            lambda wait: not again() or (ends is not None and self.clock() + wait >= ends)
        )
        return await self._retry(attempt, rest, stop)

    def refusal(self) -> BreakerOpen:
        return BreakerOpen(
            f"Too many messages failed here; ask again in {self.breaker.seconds_left():.0f} s, or tell instead.",
            reason="breaker_open",
        )

    async def _retry(self, attempt: Callable[[], Awaitable[T]], rest: Rest, stop: stop_base) -> T:
        # The first try goes without tenacity, whose machinery costs as much as the whole turn of most messages.
        try:
            return await attempt()
        except BreakerOpen:
            raise
        except Exception as error:
            first = error
        tries = 0

        async def counted() -> T:
            nonlocal tries
            tries += 1
            if tries == 1:
                raise first
            return await attempt()

        async def between(seconds: float) -> None:
            await rest(self.sleep(seconds))

        trying = AsyncRetrying(
            stop=stop,
            wait=self.policy.wait,
            sleep=between,
            retry=retry_if_exception(lambda e: isinstance(e, Exception) and not is_hopeless(e)),
            before_sleep=self._say_again,
            reraise=True,
        )
        try:
            return await trying(counted)
        except BreakerOpen:
            raise
        except Exception as error:
            self.given_up += 1
            raise CriticalFailure(error, tries) from error

    def _say_again(self, state: RetryCallState) -> None:
        self.retries += 1
        error = state.outcome.exception() if state.outcome is not None else None
        log.warning(
            "try %d of %d failed (%s: %s); trying again in %.3g s",
            state.attempt_number,
            self.policy.max_retries,
            type(error).__name__,
            error,
            state.upcoming_sleep,
            exc_info=error,
        )


class _Otherwise(stop_base):
    """Stops when `stop(seconds of the wait to come)` says so."""

    def __init__(self, stop: Callable[[float], bool]) -> None:
        self._stop = stop

    def __call__(self, retry_state: RetryCallState) -> bool:
        return self._stop(retry_state.upcoming_sleep)


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()
