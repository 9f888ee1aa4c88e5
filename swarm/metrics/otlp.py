"""OpenTelemetry's protocol in its JSON encoding: what a collector is sent over HTTP at ``/v1/metrics``.

By hand and not by the SDK's exporter: that keeps a registry of its own beside ours and a thread, and costs an
agent process more memory than all that it counts. The encoding is a part of the OTLP specification: 64-bit
numbers are strings, enumerations are numbers, times are Unix nanoseconds. All is cumulative, so a request
that was lost costs nothing but the moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from swarm.metrics.family import Buckets, Family, Sample

CONTENT_TYPE: Final = "application/json"
CUMULATIVE: Final = 2


def export_request(
    families: Iterable[Family], resource: Mapping[str, str], *, since: int, now: int
) -> dict[str, Any]:
    """An ExportMetricsServiceRequest. `resource` says whose numbers these are; `since` (when the counting began) and
    `now` in nanoseconds."""
    times = {"startTimeUnixNano": str(since), "timeUnixNano": str(now)}
    metrics = [_metric(family, times) for family in families if family.samples]
    scope = {"scope": {"name": "swarm"}, "metrics": metrics}
    return {"resourceMetrics": [{"resource": {"attributes": _attributes(resource)}, "scopeMetrics": [scope]}]}


def refused_points(answer: Any) -> tuple[int, str]:
    """How many points a collector's answer says it refused, and its sentence for it; 0 for any other answer."""
    partial = answer.get("partialSuccess") if isinstance(answer, dict) else None
    if not isinstance(partial, dict):
        return 0, ""
    try:
        return int(partial.get("rejectedDataPoints") or 0), str(partial.get("errorMessage") or "")
    except (TypeError, ValueError):
        return 0, ""


def _metric(family: Family, times: Mapping[str, str]) -> dict[str, Any]:
    points = [_point(sample, times) for sample in family.samples]
    said: dict[str, Any] = {"name": family.name, "description": family.help, "unit": _unit(family.name)}
    match family.kind:
        case "gauge":
            said["gauge"] = {"dataPoints": points}
        case "counter":
            said["sum"] = {"dataPoints": points, "aggregationTemporality": CUMULATIVE, "isMonotonic": True}
        case "histogram":
            said["histogram"] = {"dataPoints": points, "aggregationTemporality": CUMULATIVE}
    return said


def _point(sample: Sample, times: Mapping[str, str]) -> dict[str, Any]:
    labels, value = sample
    point: dict[str, Any] = {"attributes": _attributes(labels), **times}
    if isinstance(value, Buckets):
        point["count"] = str(value.total)
        point["sum"] = value.sum
        point["bucketCounts"] = [str(count) for count in value.counts]
        point["explicitBounds"] = list(value.bounds)
    elif isinstance(value, int):
        point["asInt"] = str(value)
    else:
        point["asDouble"] = value
    return point


def _attributes(labels: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": {"stringValue": value}} for key, value in labels.items()]


def _unit(name: str) -> str:
    """The unit that a name says, as UCUM writes it."""
    plain = name.removesuffix("_total")
    return {"seconds": "s", "bytes": "By"}.get(plain.rpartition("_")[2], "1")
