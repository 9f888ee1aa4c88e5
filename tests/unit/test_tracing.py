"""Traces: what came in goes out, spans lie below their parents, a dead collector costs nothing but spans."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from swarm.errors import ConfigError
from swarm.metrics.posting import Address
from swarm.testing import eventually
from swarm.tracing import exporting
from swarm.tracing.exporting import TraceExport, TraceSettings, trace_settings, tracing
from swarm.tracing.tracer import UNTRACED, current_traceparent
from tests.collector import collecting

ABOVE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = ABOVE[:-2] + "00"


def settings_from(**values: object) -> Callable[[str], Any]:
    return values.get


def export_to(url: str, **more: Any) -> TraceExport:
    return TraceExport(TraceSettings(Address(url + "/v1/traces"), **more), {"service.name": "ada"})


def test_who_records_nothing_passes_on_what_came_in() -> None:
    assert current_traceparent() is None
    with UNTRACED.span("process", parent=ABOVE) as span:
        assert span.traceparent == ABOVE == current_traceparent()
        with UNTRACED.span("execute_tool") as inner:
            assert inner.traceparent == ABOVE
    assert current_traceparent() is None


async def test_spans_lie_below_their_parents_in_one_trace() -> None:
    async with collecting() as (collector, url):
        export = export_to(url)
        with export.tracer.span("process down.ada", "consumer", {"n": 1}, parent=ABOVE) as outer:
            with export.tracer.span("execute_tool COUNT") as inner:
                assert current_traceparent() == inner.traceparent != outer.traceparent
            with pytest.raises(KeyError), export.tracer.span("chat model"):
                raise KeyError("a secret text")
        await export.last()
    [(head, body)] = collector.requests
    assert head.startswith("POST /v1/traces")
    assert {"key": "service.name", "value": {"stringValue": "ada"}} in body["resourceSpans"][0]["resource"][
        "attributes"
    ]
    outer_span, tool, chat = (
        collector.spans[n] for n in ("process down.ada", "execute_tool COUNT", "chat model")
    )
    assert {span["traceId"] for span in (outer_span, tool, chat)} == {ABOVE[3:35]}
    assert outer_span["parentSpanId"] == ABOVE[36:52] and outer_span["kind"] == 5
    assert tool["parentSpanId"] == chat["parentSpanId"] == outer_span["spanId"]
    assert int(tool["startTimeUnixNano"]) <= int(tool["endTimeUnixNano"])
    assert chat["status"]["code"] == 2 and tool["status"]["code"] == 0
    assert "a secret text" not in json.dumps(body) and "KeyError" in json.dumps(chat)
    assert export.sent == 3


async def test_what_was_not_sampled_elsewhere_is_not_recorded_here_and_still_passed_on() -> None:
    async with collecting() as (collector, url):
        export = export_to(url)
        with export.tracer.span("process", parent=UNSAMPLED) as span:
            assert span.traceparent is not None
            assert span.traceparent[3:35] == ABOVE[3:35] and span.traceparent.endswith("-00")
        none = export_to(url, ratio=0.0)
        with none.tracer.span("begins here"):
            pass
        await export.last()
        await none.last()
    assert collector.requests == []


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(exporting, "MOST_SPANS", 5)
    naps: list[float] = []
    slept = asyncio.Event()

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            slept.set()
            await asyncio.Event().wait()

    export = TraceExport(TraceSettings(Address("http://127.0.0.1:9/v1/traces")), {}, sleep=sleep)
    for number in range(8):
        with export.tracer.span(f"s{number}"):
            pass
    assert export.dropped == 3
    async with asyncio.TaskGroup() as group:
        running = group.create_task(export.run())
        await eventually(lambda: export.dropped == 8)
        with export.tracer.span("late"):
            pass
        async with asyncio.timeout(10):
            await slept.wait()
        running.cancel()
    assert naps[0] < naps[1]  # asked less and less often
    assert len([r for r in caplog.records if "did not get to" in r.message]) == 1
    with export.tracer.span("at the end"):
        pass
    await export.last()  # not tried: it would only cost time
    assert export.sent == 0


def test_settings_by_opentelemetrys_own_names() -> None:
    assert trace_settings(settings_from()) is None
    both = settings_from(
        OTEL_EXPORTER_OTLP_ENDPOINT="http://c:4318/", OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20x"
    )
    settings = trace_settings(both)
    assert settings is not None
    assert settings.endpoint.target == "/v1/traces" and settings.headers == {"authorization": "Bearer x"}
    assert "Bearer" not in repr(settings)
    for wrong in (
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_SAMPLER_ARG": "half"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_HEADERS": "secretvalue"},
    ):
        with pytest.raises(ConfigError) as caught:
            trace_settings(settings_from(**wrong))
        assert "secretvalue" not in str(caught.value)
        assert tracing(settings_from(**wrong), {}) is None
