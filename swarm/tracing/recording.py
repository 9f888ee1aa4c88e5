"""Spans by the OpenTelemetry SDK. Import this only where traces are wanted: it is 9 MB and 150 ms.

The SDK makes the ids, samples and keeps the span; who surrounds whom is a `traceparent` in a context variable of
ours (`tracer.py`), the same that travels on the wire. So a parent in this process and one in another are alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from swarm.tracing.tracer import Attributes, Kind, Span, current_traceparent, surrounded_by

_KINDS: Final = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}
_PROPAGATOR: Final = TraceContextTextMapPropagator()


class Recorded:
    def __init__(self, span: trace.Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.traceparent: str | None = (
            f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
        )

    def set(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def fail(self, why: str) -> None:
        self._span.set_attribute("error.type", why)
        self._span.set_status(trace.StatusCode.ERROR)


class Recording:
    """`on_end` gets every sampled span when it ends; `ratio` of the traces that begin here are sampled, of those
    that begin elsewhere all that were sampled there."""

    def __init__(
        self, resource: Mapping[str, str], on_end: Callable[[ReadableSpan], None], *, ratio: float = 1.0
    ) -> None:
        provider = TracerProvider(
            resource=Resource(dict(resource)),
            sampler=ParentBased(TraceIdRatioBased(ratio)),
            shutdown_on_exit=False,
        )
        provider.add_span_processor(_Ended(on_end))
        self._tracer = provider.get_tracer("swarm")

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        *,
        parent: str | None = None,
    ) -> Iterator[Span]:
        above = parent or current_traceparent()
        context = Context() if above is None else _PROPAGATOR.extract({"traceparent": above}, Context())
        span = self._tracer.start_span(name, context, kind=_KINDS[kind], attributes=dict(attributes or {}))
        recorded = Recorded(span)
        try:
            with surrounded_by(recorded.traceparent):
                yield recorded
        except (Exception, asyncio.CancelledError) as error:
            recorded.fail(type(error).__name__)
            raise
        finally:
            span.end()


class _Ended(SpanProcessor):
    def __init__(self, on_end: Callable[[ReadableSpan], None]) -> None:
        self._on_end = on_end

    def on_end(self, span: ReadableSpan) -> None:
        context = span.context
        if context is not None and context.trace_flags.sampled:
            self._on_end(span)
