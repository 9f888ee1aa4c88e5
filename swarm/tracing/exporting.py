"""Ended spans on their way to a collector: a bounded queue, a request every few seconds, and no message that waits.

Settings, of the agent or of the environment, by OpenTelemetry's own names:

    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT   where spans are sent; else
    OTEL_EXPORTER_OTLP_ENDPOINT          the collector, and spans to its /v1/traces; neither: nothing is recorded
    OTEL_EXPORTER_OTLP_HEADERS           ``name=value,name=value``, such as an Authorization; never logged
    OTEL_TRACES_SAMPLER_ARG              the share of the traces that begin here to record, 0 to 1; 1 by default
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import msgspec

from swarm.errors import ConfigError
from swarm.metrics.posting import Address, NotPosted, post
from swarm.tracing.otlp import export_request
from swarm.tracing.tracer import UNTRACED, Tracer

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

log = logging.getLogger(__name__)

SETTINGS: Final = (
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "OTEL_TRACES_SAMPLER_ARG",
)
MOST_SPANS: Final = 4096
"""Ended spans that wait; beyond, the oldest go, and are counted."""
BATCH: Final = 512
INTERVAL: Final = 2.0
LONGEST_INTERVAL: Final = 60.0
POST_SECONDS: Final = 5.0
LAST_SECONDS: Final = 1.0


class TraceSettings(msgspec.Struct, frozen=True):
    """Its repr shows no header, and of the endpoint only the host."""

    endpoint: Address
    headers: dict[str, str] = {}
    ratio: float = 1.0

    def __repr__(self) -> str:
        return f"TraceSettings({self.endpoint}, ratio={self.ratio:g})"


def trace_settings(get_setting: Callable[[str], Any]) -> TraceSettings | None:
    """What the settings ask for; None without an endpoint. Raises ConfigError, naming the setting."""
    url = str(get_setting("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or "").strip()
    if not url:
        base = str(get_setting("OTEL_EXPORTER_OTLP_ENDPOINT") or "").strip()
        if not base:
            return None
        url = base.rstrip("/") + "/v1/traces"
    try:
        endpoint = Address(url)
    except ConfigError as error:
        raise ConfigError(f"The endpoint for traces is of no use: {error}.") from None
    return TraceSettings(
        endpoint,
        _headers(str(get_setting("OTEL_EXPORTER_OTLP_HEADERS") or "")),
        _ratio(get_setting("OTEL_TRACES_SAMPLER_ARG")),
    )


class TraceExport:
    """`tracer` records from the start; `run` sends for as long as the process serves, `last` once at its end."""

    def __init__(
        self,
        settings: TraceSettings,
        resource: Mapping[str, str],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        from swarm.tracing.recording import Recording

        self._settings = settings
        self._sleep = sleep
        self._ended: deque[ReadableSpan] = deque()
        self._failed = 0
        self.sent = 0
        self.dropped = 0
        self.tracer: Tracer = Recording(resource, self._take, ratio=settings.ratio)

    def _take(self, span: ReadableSpan) -> None:
        if len(self._ended) >= MOST_SPANS:
            self._ended.popleft()
            self.dropped += 1
        self._ended.append(span)

    async def run(self) -> None:
        """Never ends by itself and never raises but for cancellation."""
        while True:
            await self._sleep(min(INTERVAL * 2 ** min(self._failed, 10), LONGEST_INTERVAL))
            while self._ended and await self._send(POST_SECONDS):
                pass

    async def last(self) -> None:
        """What ended since; not to a collector that failed last time, which would only cost time."""
        if self._ended and not self._failed:
            await self._send(LAST_SECONDS)

    async def _send(self, seconds: float) -> bool:
        """One request. False when it failed; its spans are gone then, for there will be others."""
        batch = [self._ended.popleft() for _ in range(min(BATCH, len(self._ended)))]
        why = await self._try(batch, seconds)
        if why is None:
            self.sent += len(batch)
            if self._failed:
                log.info("spans arrive at %s again", self._settings.endpoint)
            self._failed = 0
            return True
        self.dropped += len(batch)
        self._failed += 1
        say = log.warning if self._failed == 1 else log.debug
        say("spans did not get to %s: %s; no message waits for that", self._settings.endpoint, why)
        return False

    async def _try(self, batch: list[ReadableSpan], seconds: float) -> str | None:
        try:
            body = json.dumps(export_request(batch), separators=(",", ":")).encode()
            headers = {"Content-Type": "application/json", "User-Agent": "swarm", **self._settings.headers}
            answer = await post(self._settings.endpoint, body, headers, seconds=seconds)
        except NotPosted as error:
            return str(error)
        return None if 200 <= answer.status < 300 else f"it answered {answer.status}"


def tracing(get_setting: Callable[[str], Any], resource: Mapping[str, str]) -> TraceExport | None:
    """The export that the settings ask for. Settings that are of no use are an error in the log and no traces: an
    agent works without."""
    try:
        settings = trace_settings(get_setting)
    except ConfigError as error:
        log.error("%s Nothing is recorded.", error)  # noqa: TRY400 - one sentence, for a user's mistake
        return None
    return None if settings is None else TraceExport(settings, resource)


def tracer_of(export: TraceExport | None) -> Tracer:
    return UNTRACED if export is None else export.tracer


def _ratio(value: Any) -> float:
    if value is None or value == "":
        return 1.0
    try:
        ratio = float(value)
    except (TypeError, ValueError):
        ratio = -1.0
    if not 0 <= ratio <= 1:
        raise ConfigError(f"OTEL_TRACES_SAMPLER_ARG {value!r} is not a share from 0 to 1.")
    return ratio


def _headers(text: str) -> dict[str, str]:
    """Raises ConfigError, which repeats no value: it may be a secret."""
    headers: dict[str, str] = {}
    for number, part in enumerate(filter(None, (one.strip() for one in text.split(","))), 1):
        name, equals, value = part.partition("=")
        value = unquote(value.strip())  # as OpenTelemetry's specification has it
        if not equals or not name.strip().isascii() or not value.isprintable() or not value.isascii():
            raise ConfigError(f"OTEL_EXPORTER_OTLP_HEADERS: part {number} is not name=value.")
        headers[name.strip()] = value
    return headers
