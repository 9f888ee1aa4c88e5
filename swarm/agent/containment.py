"""How a plugin's code is called: within a deadline, and unable to harm more than its own part."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from swarm.agent.bounded import TookTooLong, call_bounded
from swarm.agent.storable import describe
from swarm.components import Handler

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


class Contained(NamedTuple):
    """A call's value, or what went wrong, as a sentence."""

    value: Any = None
    error: str | None = None


def _as_it_is(value: Any) -> Any:
    return value


async def contained(
    runtime: AgentRuntime,
    kind: str,
    name: str,
    handler: Handler,
    given: Mapping[str, Any],
    *,
    seconds: float,
    read: Callable[[Any], Any] = _as_it_is,
) -> Contained:
    """Call `handler` with those of `given` that it names. It never raises but for cancellation:
    an exception or a deadline becomes a sentence, is logged with the plugin's name and counted.

    `read` makes of what it returned what the caller needs, in here too: a value of a plugin's own class may
    raise when it is only looked at."""
    began, error = time.perf_counter(), None
    try:
        return Contained(read(await call_bounded(handler, given, seconds)))
    except TookTooLong:
        error = f"{kind} {name} took longer than {seconds:g} s and was given up"
    except Exception as failure:
        error = f"{kind} {name} failed: {runtime.redaction(describe(failure))}"
        log.debug("%s %s failed", kind, name, exc_info=True)
    finally:
        plugin = runtime.registry.owner_of(kind, name)
        runtime.metrics.count_call(plugin, (time.perf_counter() - began) * 1000, failed=error is not None)
    await tell_failure(runtime, kind, name, error)
    return Contained(error=error)


async def tell_failure(runtime: AgentRuntime, kind: str, name: str, error: str) -> None:
    """Log a contained failure with its plugin, count it, and tell listeners."""
    plugin = runtime.registry.owner_of(kind, name)
    log.warning("%s (plugin %s)", error, plugin or "unknown")
    runtime.metrics.count_failure(kind, name)
    await runtime.events.emit("component:failed", kind=kind, name=name, plugin=plugin, error=error)
