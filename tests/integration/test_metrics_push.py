"""G9: metrics are pushed in the background, and whatever becomes of a push, no message feels it.

With real HTTP servers that behave well, or in one of the ways in which they do not, while messages flow through a
coordinator, a mailbox and turns.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest

from coordinator.families import CoordinatorFamilies
from coordinator.pushing import coordinator_push
from swarm.agent.pushing import agent_push, pushing
from swarm.components import Action, Message
from swarm.errors import ConfigError
from swarm.metrics.pushing import LAST_SECONDS, LONGEST_INTERVAL, PUSH_SECONDS, push_settings
from swarm.plugin import Plugin
from swarm.testing import VirtualClock, agent, eventually, say
from tests.memory_swarm import memory_swarm
from tests.metrics_endpoint import (
    Behaviour,
    answers,
    babbles,
    collector,
    drips,
    floods,
    hangs,
    hangs_up,
)
from tests.servers import free_port

TOKEN = "Bearer push-secret-1"


def echo() -> Plugin:
    async def handle(message: Message) -> str:
        """Echoes."""
        return f"echo {message.text}"

    return Plugin("echo", actions=[Action("ECHO", handle)])


def settings(url: str, **more: Any) -> dict[str, Any]:
    return {"METRICS_ENDPOINT": url, "METRICS_INTERVAL": 0.05, **more}


async def ask_all(swarm: Any, count: int = 40) -> None:
    """Messages in many rooms at once, each with its own right answer."""
    replies = await asyncio.gather(
        *(swarm.ctl("ask", agent="reader", text=f"{n}", room=f"r{n % 8}", timeout=10) for n in range(count))
    )
    assert [one["text"] for one in replies] == [f"echo {n}" for n in range(count)]


async def test_g9_what_was_counted_arrives_as_otlp_and_the_last_of_it_when_the_agent_stops() -> None:
    async with collector() as told, memory_swarm(["reader"]) as swarm:
        url = f"{told.url}/v1/metrics"
        await swarm.start("reader", echo(), settings=settings(url, METRICS_HEADERS=f"Authorization={TOKEN}"))
        await eventually(lambda: told.requests, what="a push")
        told.behave = answers(204, b"")
        await ask_all(swarm, 5)
        await swarm.end("reader")
        last = told.requests[-1]
    assert last.path == "/v1/metrics"
    assert last.headers["authorization"] == TOKEN
    assert last.headers["content-type"] == "application/json"
    (resource,) = last.body["resourceMetrics"]
    named = {one["key"]: one["value"]["stringValue"] for one in resource["resource"]["attributes"]}
    assert named["service.name"] == "reader"
    metrics = {one["name"]: one for one in resource["scopeMetrics"][0]["metrics"]}
    (point,) = metrics["swarm_messages_total"]["sum"]["dataPoints"]
    assert point["asInt"] == "5", "the push at the end has what came after the one before"
    assert TOKEN not in str(last.body)


async def test_g9_another_endpoint_gets_the_sources_own_shape() -> None:
    async with collector(answers(200, b"ok", "text/plain")) as told, agent("Ada", echo()) as runtime:
        wanted = push_settings(settings(f"{told.url}/metrics?key=k").get)
        assert wanted is not None and wanted.format == "json"
        await say(runtime, "hello")
        await agent_push(runtime, wanted).last()
        assert runtime.metrics.pushes == 1
    (request,) = told.requests
    assert request.path == "/metrics?key=k"
    assert request.body["agentId"] == runtime.agent_id
    assert request.body["metrics"]["messagesProcessed"] == 1


async def test_fault_5_a_dead_metrics_endpoint_costs_no_message(caplog: pytest.LogCaptureFixture) -> None:
    """The source awaited its push in the `finally` of every message: endpoint down, every message failed."""
    async with memory_swarm(["reader"]) as swarm:
        dead = settings(f"http://127.0.0.1:{free_port()}/v1/metrics")
        running = await swarm.start("reader", echo(), settings=dead)
        await eventually(lambda: running.runtime.metrics.push_failures, what="a push that failed")
        await ask_all(swarm)
        metrics = running.runtime.metrics
        await eventually(lambda: metrics.push_failures >= 2, what="another try")
        assert (metrics.messages, metrics.errors, metrics.pushes) == (40, 0, 0)
        assert await swarm.end("reader") == 0
    warned = [
        one for one in caplog.records if "METRICS_ENDPOINT" in one.message and one.levelno >= logging.WARNING
    ]
    assert len(warned) == 1, "said once, not at each push"
    assert "cannot be reached" in warned[0].getMessage()


@pytest.mark.parametrize("behave", [hangs, drips], ids=["hangs", "drips"])
async def test_g9_an_endpoint_that_hangs_holds_up_neither_messages_nor_the_stop(behave: Behaviour) -> None:
    async with collector(behave) as told, memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", echo(), settings=settings(f"{told.url}/v1/metrics"))
        await eventually(lambda: told.requests, what="a push that hangs")
        await ask_all(swarm)
        began = time.monotonic()
        assert await swarm.end("reader") == 0
        assert time.monotonic() - began < LAST_SECONDS + 2 < PUSH_SECONDS


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (answers(500), "it answered 500"),
        (answers(302, extra="Location: http://127.0.0.1:1/other\r\n"), "it redirects"),
        (answers(200, b"<html>Welcome</html>", "text/html; charset=utf-8"), "a web page"),
        (answers(200, b'{"partialSuccess":{"rejectedDataPoints":"7","errorMessage":"too old"}}'), "7 points"),
        (hangs_up, "missing, broken off"),
        (babbles, "not HTTP"),
    ],
    ids=["500", "redirect", "html", "partial", "hangs-up", "not-http"],
)
async def test_g9_an_answer_that_is_none_is_counted_and_said_with_its_reason(
    behave: Behaviour, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with collector(behave) as told, agent("Ada", echo()) as runtime:
        wanted = push_settings(settings(f"{told.url}/v1/metrics").get)
        assert wanted is not None
        await agent_push(runtime, wanted).last()
        assert (runtime.metrics.pushes, runtime.metrics.push_failures) == (0, 1)
    (said,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert why in said


async def test_g9_an_answer_without_end_is_read_to_a_bound_only() -> None:
    async with collector(floods) as told, agent("Ada") as runtime:
        wanted = push_settings(settings(f"{told.url}/v1/metrics").get)
        assert wanted is not None
        await agent_push(runtime, wanted).last()
        assert runtime.metrics.pushes == 1


async def test_g9_an_endpoint_that_fails_is_asked_less_and_less_until_it_is_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "swarm.metrics.pushing")
    clock = VirtualClock()
    async with collector(answers(503)) as told, agent("Ada") as runtime:
        wanted = push_settings(settings(f"{told.url}/v1/metrics", METRICS_INTERVAL=15).get)
        assert wanted is not None
        async with asyncio.TaskGroup() as group:
            running = group.create_task(agent_push(runtime, wanted, sleep=clock.sleep).run())
            await eventually(lambda: len(clock.slept) > 9)
            told.behave = answers()
            await eventually(lambda: clock.slept[-1] == 15.0 and runtime.metrics.pushes)
            running.cancel()
    first, *waits = clock.slept
    assert 0 <= first < 15, "what is started together does not push together"
    assert waits[:8] == [30, 60, 120, 240, 480, LONGEST_INTERVAL, LONGEST_INTERVAL, LONGEST_INTERVAL]
    said = [one for one in caplog.records if one.name == "swarm.metrics.pushing"]
    assert [one.levelname for one in said] == ["WARNING", "INFO"]
    assert "again" in said[-1].getMessage()


def test_g9_without_an_endpoint_nothing_is_pushed() -> None:
    assert push_settings({}.get) is None
    assert push_settings({"METRICS_ENDPOINT": "  "}.get) is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"METRICS_ENDPOINT": "ftp://h/x"}, "http:// or https://"),
        ({"METRICS_ENDPOINT": "localhost:4318"}, "http:// or https://"),
        ({"METRICS_ENDPOINT": "http://h:99999/"}, "not a URL"),
        ({"METRICS_ENDPOINT": "http://user:secret@h/"}, "send those as a header"),
        ({"METRICS_ENDPOINT": "http://h/a b"}, "%XX"),
        ({"METRICS_FORMAT": "otpl"}, "did you mean otlp"),
        ({"METRICS_INTERVAL": "soon"}, "METRICS_INTERVAL 'soon'"),
        ({"METRICS_INTERVAL": "nan"}, "METRICS_INTERVAL"),
        ({"METRICS_HEADERS": "Authorization=a\nsecret"}, "the value of Authorization"),
        ({"METRICS_HEADERS": "secret"}, "part 1 is not Name=value"),
    ],
)
async def test_g9_a_setting_that_is_of_no_use_is_one_sentence_and_the_agent_works_without(
    wrong: dict[str, str], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = {"METRICS_ENDPOINT": "http://127.0.0.1:1/v1/metrics", **wrong}
    with pytest.raises(ConfigError) as caught:
        push_settings(given.get)
    assert says in str(caught.value) and "secret" not in str(caught.value)
    async with agent("Ada", settings=given) as runtime:
        assert pushing(runtime) is None
        assert (await say(runtime, "hello")).status == "handled"
    assert "Nothing is pushed." in caplog.text


def test_no_secret_of_a_push_is_shown() -> None:
    given = settings("https://collector.example/v1/metrics?key=hidden-1", METRICS_HEADERS="X-Key=hidden-2")
    shown = push_settings(given.get)
    assert "collector.example" in repr(shown) and "hidden" not in f"{shown!r} {shown}"


async def test_g9_the_coordinator_pushes_what_waits_and_runs_in_the_whole_swarm() -> None:
    async with collector() as told, memory_swarm(["reader"]) as swarm, asyncio.TaskGroup() as group:
        await swarm.ctl("tell", agent="reader", text="for later")
        coordinator = swarm.coordinator
        assert coordinator is not None
        families = CoordinatorFamilies(swarm.database.ledger(), coordinator.metrics, lambda: coordinator.term)
        wanted = settings(f"{told.url}/v1/metrics", METRICS_HEADERS="X-From=settings")
        push = coordinator_push(wanted.get, "memory", families, coordinator)
        assert push is not None
        running = group.create_task(push.run())
        await eventually(lambda: told.requests, what="a push")
        running.cancel()
        assert coordinator.metrics.pushes >= 1
    request = told.requests[0]
    assert request.headers["x-from"] == "settings"
    (resource,) = request.body["resourceMetrics"]
    named = {one["key"]: one["value"]["stringValue"] for one in resource["resource"]["attributes"]}
    assert (named["service.name"], named["service.namespace"]) == ("coordinator", "memory")
    metrics = {one["name"]: one for one in resource["scopeMetrics"][0]["metrics"]}
    (point,) = metrics["swarm_inbox_pending"]["gauge"]["dataPoints"]
    assert (point["attributes"][0]["value"]["stringValue"], point["asInt"]) == ("reader", "1")


def test_g9_a_coordinator_without_an_endpoint_or_with_a_bad_one_works_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def push_of(**given: str) -> object:
        return coordinator_push(given.get, "memory", None, None)  # type: ignore[arg-type]

    assert push_of() is None
    assert push_of(METRICS_ENDPOINT="http://127.0.0.1:1/metrics") is None, "the source's shape is an agent's"
    assert not caplog.records
    assert push_of(METRICS_ENDPOINT="nowhere") is None
    assert "METRICS_ENDPOINT is of no use" in caplog.text
