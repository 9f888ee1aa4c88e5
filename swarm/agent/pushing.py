"""What an agent pushes, and when: see `swarm/metrics/pushing.py`, whose settings it has."""

from __future__ import annotations

import logging
import re
import time
from typing import TYPE_CHECKING, Any, Final

from swarm.agent.families import families
from swarm.agent.metrics import report
from swarm.errors import ConfigError
from swarm.metrics import otlp
from swarm.metrics.pushing import Push, PushSettings, Sleep, push_settings

if TYPE_CHECKING:
    from swarm.agent.mailbox import Mailbox
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


def pushing(runtime: AgentRuntime, mailbox: Mailbox | None = None, *, swarm: str = "") -> Push | None:
    """The push that the runtime's settings ask for. Settings that are of no use are an error in the log and no
    push: an agent works without."""
    try:
        settings = push_settings(runtime.get_setting)
    except ConfigError as error:
        log.error("%s Nothing is pushed.", error)  # noqa: TRY400 - one sentence, for a user's mistake
        return None
    return None if settings is None else agent_push(runtime, settings, mailbox, swarm=swarm)


def agent_push(
    runtime: AgentRuntime,
    settings: PushSettings,
    mailbox: Mailbox | None = None,
    *,
    swarm: str = "",
    sleep: Sleep | None = None,
) -> Push:
    resource = resource_of(runtime, swarm)

    async def body() -> dict[str, Any]:
        if settings.format == "json":
            return source_shape(runtime)
        found = families(runtime, mailbox)
        return otlp.export_request(found, resource, since=runtime.metrics.born_at, now=time.time_ns())

    count = runtime.metrics.count_push
    return Push(settings, body, count) if sleep is None else Push(settings, body, count, sleep=sleep)


def resource_of(runtime: AgentRuntime, swarm: str = "") -> dict[str, str]:
    """Whose numbers and spans these are, in OpenTelemetry's words. The instance stands here and in no label: its
    name is an id."""
    resource = {"service.name": runtime.name, "service.version": runtime.character.version}
    if runtime.instance:
        resource["service.instance.id"] = runtime.instance
    if swarm:
        resource["service.namespace"] = swarm
    return resource


def source_shape(runtime: AgentRuntime) -> dict[str, Any]:
    """``{agentId, timestamp, metrics}`` in the source's words: Unix milliseconds, camelCase, times in
    milliseconds, memory in bytes. Names of plugins, models and tasks stay as they are."""
    return {
        "agentId": runtime.agent_id,
        "timestamp": int(time.time() * 1000),
        "metrics": {_camel(key): _inner(value) for key, value in report(runtime).items()},
    }


def _inner(value: Any) -> Any:
    """Below the six: keys that are ours become camelCase, keys that are names stay."""
    if not isinstance(value, dict):
        return value
    return {_camel(key) if key in _OURS else key: _inner(one) for key, one in value.items()}


_OURS: Final = frozenset({"average_ms", "slowest_ms", "input_tokens", "output_tokens"})


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
