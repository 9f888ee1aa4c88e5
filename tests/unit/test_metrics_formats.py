"""What an agent counts (D7, G8), in the formats in which others read it (G9)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from swarm.agent.families import families
from swarm.agent.pushing import source_shape
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Message
from swarm.metrics import otlp, prometheus
from swarm.metrics.family import Buckets, Family, Sample, counter
from swarm.metrics.histogram import MOST_SERIES, OTHERS, SECONDS, Histogram
from swarm.plugin import Plugin
from swarm.testing import agent, say


def worker() -> Plugin:
    async def work(message: Message) -> Any:
        """Works."""
        return {"success": False, "error": "no"} if message.text == "bad" else "done"

    return Plugin("worker", actions=[Action("WORK", work)])


def pulled(runtime: AgentRuntime) -> dict[str, Any]:
    """As a scraper reads it: family by name."""
    return {one.name: one for one in text_string_to_metric_families(prometheus.render(families(runtime)))}


def test_d7_a_duration_is_counted_in_the_bucket_of_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram("action", bounds=(0.1, 1.0))
    for seconds in (0.05, 0.1, 0.100001, 1.0, 7.0):
        histogram.observe(seconds, "WORK")
    (sample,) = histogram.family("x_seconds", "x").samples
    assert sample.labels == {"action": "WORK"}
    assert isinstance(sample.value, Buckets)
    assert sample.value.counts == (2, 2, 1)
    assert sample.value.total == 5
    assert sample.value.sum == pytest.approx(8.250001)


def test_d7_a_plugin_with_endless_names_does_not_make_endless_series() -> None:
    histogram = Histogram("action", "plugin")
    for number in range(3 * MOST_SERIES):
        histogram.observe(0.01, f"A{number}", "odd")
    samples = histogram.family("x_seconds", "x").samples
    assert len(samples) == MOST_SERIES + 1
    rest = next(one for one in samples if one.labels["action"] == OTHERS)
    assert isinstance(rest.value, Buckets) and rest.value.total == 2 * MOST_SERIES


async def test_d7_actions_and_turns_have_their_durations_counted_by_action_plugin_and_kind() -> None:
    async with agent("Ada", worker()) as runtime:
        for text in ("good", "good", "bad"):
            await say(runtime, text)
        await say(runtime, "good", kind="nonsense-of-a-program")
        found = pulled(runtime)
    actions = [one for one in found["swarm_action_duration_seconds"].samples if one.name.endswith("_count")]
    assert [(one.labels, one.value) for one in actions] == [
        ({"agent": "ada", "action": "WORK", "plugin": "worker"}, 4.0)
    ]
    turns = {
        one.labels["kind"]: one.value
        for one in found["swarm_turn_duration_seconds"].samples
        if one.name.endswith("_count")
    }
    assert turns == {"ask": 3.0, "other": 1.0}
    ends = {(one.labels["kind"], one.labels["outcome"]): one.value for one in found["swarm_messages"].samples}
    assert ends == {("ask", "handled"): 2.0, ("ask", "failed"): 1.0, ("other", "handled"): 1.0}


async def test_g9_a_scraper_reads_whole_histograms_whose_buckets_add_up() -> None:
    async with agent("Ada", worker()) as runtime:
        for _ in range(5):
            await say(runtime, "good")
        found = pulled(runtime)["swarm_turn_duration_seconds"]
    assert found.type == "histogram"
    buckets = [(float(s.labels["le"]), s.value) for s in found.samples if s.name.endswith("_bucket")]
    assert [bound for bound, _ in buckets] == [*SECONDS, math.inf]
    counts = [count for _, count in buckets]
    assert counts == sorted(counts) and counts[-1] == 5.0
    assert next(s.value for s in found.samples if s.name.endswith("_sum")) > 0


async def test_g9_no_series_is_named_by_an_id() -> None:
    async with agent("Ada", worker()) as runtime:
        result = await say(runtime, "good", room="room-7d1", id="01900000-0000-7000-8000-00000000abcd")
        text = prometheus.render(families(runtime))
    for secret in (result.run_id, "01900000", "room-7d1", runtime.agent_id):
        assert secret not in text
    assert text.count("swarm_agent_up{") == 1


def test_g9_a_label_may_hold_anything_and_is_read_back_as_it_was() -> None:
    odd = 'a "quoted" \\ back\nline ü'
    text = prometheus.render([counter("x_total", "Says \\ and\nmore.", [({"name": odd}, 1)])])
    (family,) = text_string_to_metric_families(text)
    assert family.samples[0].labels == {"name": odd}
    assert text.endswith("} 1\n") and len(text.splitlines()) == 3


def test_g9_numbers_that_are_none_are_written_as_prometheus_has_them() -> None:
    values = [({"n": str(n)}, n) for n in (math.inf, -math.inf, math.nan, 3, 0.25)]
    lines = prometheus.render([counter("x_total", "x", values)]).splitlines()[2:]
    assert [line.rpartition(" ")[2] for line in lines] == ["+Inf", "-Inf", "NaN", "3", "0.25"]
    assert prometheus.render([Family("empty", "x", "gauge", ())]) == ""


def test_g9_otlp_writes_64_bit_numbers_as_strings_and_everything_as_cumulative() -> None:
    told = otlp.export_request(
        [
            counter("x_total", "x", [({"kind": "ask"}, 3)]),
            Family("y_seconds", "y", "histogram", (Sample({}, Buckets((0.5, 1.0), (1, 0, 2), 9.5)),)),
            Family("z_bytes", "z", "gauge", (Sample({}, 1.5),)),
        ],
        {"service.name": "Ada"},
        since=1,
        now=2,
    )
    (resource,) = told["resourceMetrics"]
    assert resource["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "Ada"}}]
    one, two, three = resource["scopeMetrics"][0]["metrics"]
    times = {"startTimeUnixNano": "1", "timeUnixNano": "2"}
    attributes = [{"key": "kind", "value": {"stringValue": "ask"}}]
    assert one["sum"] == {
        "dataPoints": [{"attributes": attributes, **times, "asInt": "3"}],
        "aggregationTemporality": 2,
        "isMonotonic": True,
    }
    assert two["unit"] == "s" and two["histogram"]["aggregationTemporality"] == 2
    assert two["histogram"]["dataPoints"] == [
        {"attributes": [], **times, "count": "3", "sum": 9.5, "bucketCounts": ["1", "0", "2"],
         "explicitBounds": [0.5, 1.0]}
    ]  # fmt: skip
    assert three["unit"] == "By" and three["gauge"]["dataPoints"][0]["asDouble"] == 1.5


async def test_g9_the_sources_shape_has_its_six_names_and_no_map_that_becomes_empty() -> None:
    async with agent("Ada", worker()) as runtime:
        await say(runtime, "good")
        await say(runtime, "bad")
        told = json.loads(json.dumps(source_shape(runtime)))
    assert set(told) == {"agentId", "timestamp", "metrics"}
    assert told["agentId"] == runtime.agent_id
    metrics = told["metrics"]
    assert set(metrics) == {
        "messagesProcessed", "averageResponseTime", "errorRate", "memoryUsage", "activeServices",
        "pluginPerformance", "modelUsage",
    }  # fmt: skip
    assert (metrics["messagesProcessed"], metrics["errorRate"]) == (2, 0.5)
    assert set(metrics["pluginPerformance"]["worker"]) == {"calls", "failures", "averageMs", "slowestMs"}
