"""How long code that is not ours may take, and what it may not do: end the process, or pretend to be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeVar

from swarm.signatures import Handler, call_handler

T = TypeVar("T")


class TookTooLong(Exception):
    """A call was given up at its deadline."""


async def bounded(work: Awaitable[T], seconds: float | None) -> T:
    """Await `work`, for `seconds` at most; None is for ever.

    Raises TookTooLong, and whatever `work` raises as an Exception: what would end the process (SystemExit) or
    pretends to be our own cancellation becomes one. A real cancellation passes.
    """
    try:
        async with asyncio.timeout(seconds) as clock:
            return await work
    except TimeoutError:
        if clock.expired():
            raise TookTooLong from None
        raise
    except SystemExit as end:
        raise RuntimeError(f"it tried to end the process ({end.code!r})") from end
    except asyncio.CancelledError as end:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("it raised CancelledError, though nobody had cancelled it") from end


async def call_bounded(handler: Handler, given: Mapping[str, Any], seconds: float) -> Any:
    """Call `handler` with those of `given` that it names, as `bounded`."""
    return await bounded(call_handler(handler, given), seconds)
