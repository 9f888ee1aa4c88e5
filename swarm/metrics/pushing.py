"""Metrics, pushed to METRICS_ENDPOINT in the background (G9): off every message's path, whatever becomes of it.

One request every `interval` seconds carries all that was counted. The numbers only grow, so a push that failed
costs nothing but its moment: nothing is kept to be sent again. An endpoint that is down, slow, or no endpoint at
all, is warned of once, asked less and less often, and counted; it is said when it is back.

Settings, of an agent, of swarm.toml or of the environment:

    METRICS_ENDPOINT   an http or https URL; empty or absent: nothing is pushed
    METRICS_FORMAT     ``otlp`` (OpenTelemetry's JSON) or ``json`` (the source's ``{agentId, timestamp, metrics}``);
                       by default otlp for an URL that ends with /v1/metrics, else json
    METRICS_INTERVAL   seconds, 15 by default
    METRICS_HEADERS    ``Name=value,Name=value``, such as an Authorization; never logged
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal

import msgspec

from swarm.errors import ConfigError, near
from swarm.metrics import otlp
from swarm.metrics.posting import Address, Answered, NotPosted, post

log = logging.getLogger(__name__)

Sleep = Callable[[float], Awaitable[None]]
Body = Callable[[], Awaitable[dict[str, Any]]]
"""Makes what is sent, at the moment it is sent."""

SETTINGS: Final = ("METRICS_ENDPOINT", "METRICS_FORMAT", "METRICS_INTERVAL", "METRICS_HEADERS")
FORMATS: Final = ("otlp", "json")
INTERVAL: Final = 15.0
LONGEST_INTERVAL: Final = 600.0
PUSH_SECONDS: Final = 5.0
LAST_SECONDS: Final = 1.0
"""What a stopping agent gives its last numbers."""


class PushSettings(msgspec.Struct, frozen=True):
    """`interval` in seconds. Its repr shows no header, and of the endpoint only the host."""

    endpoint: Address
    format: Literal["otlp", "json"]
    interval: float = INTERVAL
    headers: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"PushSettings({self.endpoint}, {self.format}, every {self.interval:g} s)"


def push_settings(get_setting: Callable[[str], Any]) -> PushSettings | None:
    """What the settings ask for; None without an endpoint. Raises ConfigError, naming the setting."""
    url = str(get_setting("METRICS_ENDPOINT") or "").strip()
    if not url:
        return None
    try:
        endpoint = Address(url)
    except ConfigError as error:
        raise ConfigError(f"METRICS_ENDPOINT is of no use: {error}.") from None
    format = str(get_setting("METRICS_FORMAT") or "").strip().lower()
    if not format:
        format = "otlp" if endpoint.target.partition("?")[0].endswith("/v1/metrics") else "json"
    if format not in FORMATS:
        raise ConfigError(f"METRICS_FORMAT {format!r} is none of {', '.join(FORMATS)}{near(format, FORMATS)}")
    return PushSettings(
        endpoint,
        "otlp" if format == "otlp" else "json",
        _seconds(get_setting("METRICS_INTERVAL")),
        _headers(str(get_setting("METRICS_HEADERS") or "")),
    )


class Push:
    """`run` for as long as a process lives, `last` once when it ends. Neither raises but for cancellation. `count` is
    told of each push whether it arrived."""

    def __init__(
        self,
        settings: PushSettings,
        body: Body,
        count: Callable[[bool], None],
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._body = body
        self._count = count
        self._sleep = sleep
        self._failed = 0

    async def run(self) -> None:
        """Push every interval, from a random moment on: what was started together need not push together."""
        interval = self._settings.interval
        await self._sleep(interval * random.random())  # noqa: S311 - spreads load
        while True:
            await self._push(PUSH_SECONDS)
            # Without a bound on the exponent the power would grow for ever.
            wait = interval * 2 ** min(self._failed, 10)
            await self._sleep(min(wait, max(interval, LONGEST_INTERVAL)))

    async def last(self) -> None:
        """What was counted since; not to an endpoint that failed last time, which would only cost time."""
        if not self._failed:
            await self._push(LAST_SECONDS)

    async def _push(self, seconds: float) -> None:
        why = await self._try(seconds)
        endpoint = self._settings.endpoint
        self._count(why is None)
        if why is None:
            if self._failed:
                log.info("metrics arrive at %s again, after %d failures", endpoint, self._failed)
            self._failed = 0
            return
        self._failed += 1
        say = log.warning if self._failed == 1 else log.debug
        say("metrics did not get to METRICS_ENDPOINT (%s): %s; no message waits for that", endpoint, why)

    async def _try(self, seconds: float) -> str | None:
        """One push. Returns why it failed, as a clause."""
        settings = self._settings
        try:
            body = json.dumps(await self._body(), separators=(",", ":")).encode()
            headers = {"Content-Type": "application/json", "User-Agent": "swarm", **settings.headers}
            answer = await post(settings.endpoint, body, headers, seconds=seconds)
        except NotPosted as error:
            return str(error)
        except Exception as error:  # what nobody foresaw must end here too: no number is worth an agent
            log.debug("a push failed", exc_info=True)
            return f"{type(error).__name__} while pushing"
        return _complaint(answer, settings.format)


def _complaint(answer: Answered, format: str) -> str | None:
    """Why this answer is none that an endpoint for metrics gives; None when it is."""
    if 300 <= answer.status < 400:
        return f"it redirects ({answer.status}), which is not followed; name the final address"
    if not 200 <= answer.status < 300:
        return f"it answered {answer.status}"
    if answer.content_type.startswith("text/html"):
        return "it answered with a web page; that address takes no metrics"
    if format == "otlp":
        try:
            refused, said = otlp.refused_points(json.loads(answer.body or b"{}"))
        except ValueError:
            return None  # a 2xx is a yes; what else it says need not be JSON
        if refused:
            return f"it refused {refused} points ({said[:200] or 'without a reason'})"
    return None


def _seconds(value: Any) -> float:
    if value is None or value == "":
        return INTERVAL
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0.05 <= seconds <= 86_400:
        raise ConfigError(f"METRICS_INTERVAL {value!r} is not a number of seconds from 0.05 to 86400.")
    return seconds


def _headers(text: str) -> dict[str, str]:
    """Raises ConfigError, which repeats no value: it may be a secret."""
    headers: dict[str, str] = {}
    for number, part in enumerate(filter(None, (one.strip() for one in text.split(","))), 1):
        name, equals, value = part.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9!#$&'*.^_`|~-]+", name.strip()):
            raise ConfigError(f"METRICS_HEADERS: part {number} is not Name=value.")
        if not re.fullmatch(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?", value.strip()):
            raise ConfigError(
                f"METRICS_HEADERS: the value of {name.strip()} has characters that a header cannot have."
            )
        headers[name.strip()] = value.strip()
    return headers
