"""Spans in OTLP's JSON encoding: what a collector is sent at ``/v1/traces``.

By hand, as for metrics (`swarm/metrics/otlp.py`): the SDK's exporter has a thread, protobuf and requests with it.
Ids are hexadecimal, 64-bit numbers are strings, enumerations are numbers, times are Unix nanoseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan


def export_request(spans: Iterable[ReadableSpan]) -> dict[str, Any]:
    """An ExportTraceServiceRequest; all spans are of one process, so of one resource."""
    spans = list(spans)
    resource = spans[0].resource.attributes if spans else {}
    scope = {"scope": {"name": "swarm"}, "spans": [_span(span) for span in spans]}
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scope]}]}


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.context
    assert context is not None
    said: dict[str, Any] = {
        "traceId": f"{context.trace_id:032x}",
        "spanId": f"{context.span_id:016x}",
        "flags": int(context.trace_flags),
        "name": span.name,
        "kind": span.kind.value + 1,
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
        "status": {"code": span.status.status_code.value},
    }
    if span.parent is not None:
        said["parentSpanId"] = f"{span.parent.span_id:016x}"
    return said


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: object) -> dict[str, Any]:
    match value:
        case bool():
            return {"boolValue": value}
        case int():
            return {"intValue": str(value)}
        case float():
            return {"doubleValue": value}
    return {"stringValue": str(value)}
