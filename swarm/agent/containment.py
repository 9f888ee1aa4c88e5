"""How a plugin's code is called: within a deadline, and unable to harm more than its own part."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from swarm.components import Handler, call_handler

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


class Contained(NamedTuple):
    """A call's value, or what went wrong, as a sentence."""

    value: Any = None
    error: str | None = None


async def contained(
    runtime: AgentRuntime,
    kind: str,
    name: str,
    handler: Handler,
    given: Mapping[str, Any],
    *,
    seconds: float,
) -> Contained:
    """Call `handler` with those of `given` that it names. It never raises but for cancellation:
    an exception or a deadline becomes a sentence, is logged with the plugin's name and counted."""
    plugin, began = runtime.registry.owner_of(kind, name), time.perf_counter()
    late, error = asyncio.timeout(seconds), None
    try:
        async with late:
            return Contained(await call_handler(handler, given))
    except Exception as failure:
        error = f"{kind} {name} failed: {type(failure).__name__}: {failure}"
        if isinstance(failure, TimeoutError) and late.expired():
            error = f"{kind} {name} took longer than {seconds:g} s and was given up"
        log.debug("%s %s failed", kind, name, exc_info=True)
    finally:
        milliseconds = (time.perf_counter() - began) * 1000
        runtime.metrics.count_call(plugin, milliseconds, failed=error is not None)
    log.warning("%s (plugin %s)", error, plugin or "unknown")
    runtime.metrics.count_failure(kind, name)
    await runtime.events.emit("component:failed", kind=kind, name=name, plugin=plugin, error=error)
    return Contained(error=error)
