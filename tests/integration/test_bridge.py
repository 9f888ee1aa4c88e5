"""The gallery's bridge against a real WebSocket server: what comes in is answered, and nothing ends it (E2)."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from swarm import Plugin
from swarm.agent.runtime import AgentRuntime
from swarm.testing import eventually, say, started_agent

FOLDER = Path(__file__).parents[2] / "agents" / "bridge"
CHARACTER = {"name": "Bridge", "bio": "A bridge in a test."}


class FarEnd:
    """The other side: keeps what it gets, and the connections it has."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.connections: list[ServerConnection] = []
        self.authorizations: list[str | None] = []
        self.server: Server | None = None
        self.port = 0

    async def open(self) -> None:
        self.server = await serve(self._take, "127.0.0.1", self.port)
        self.port = next(iter(self.server.sockets)).getsockname()[1]

    async def close(self) -> None:
        assert self.server is not None
        self.server.close()
        await self.server.wait_closed()

    async def _take(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.authorizations.append(connection.request.headers.get("Authorization"))
        self.connections.append(connection)
        async for raw in connection:
            self.frames.put_nowait(json.loads(raw))

    async def say(self, frame: dict[str, Any] | str | bytes) -> None:
        await self.connections[-1].send(json.dumps(frame) if isinstance(frame, dict) else frame)

    async def hears(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            return await self.frames.get()


@asynccontextmanager
async def far_end() -> AsyncIterator[FarEnd]:
    end = FarEnd()
    await end.open()
    try:
        yield end
    finally:
        await end.close()


@asynccontextmanager
async def bridge(end: FarEnd, *plugins: Plugin, **settings: Any) -> AsyncIterator[AgentRuntime]:
    runtime = await started_agent(
        CHARACTER,
        *plugins,
        folder=FOLDER,
        settings={
            "BRIDGE_URL": f"ws://127.0.0.1:{end.port}/agents",
            "BRIDGE_RETRY_SECONDS": 0.02,
            **settings,
        },
    )
    try:
        yield runtime
    finally:
        await runtime.stop()


def status(runtime: AgentRuntime) -> str:
    service = runtime.get_service("websocket")
    assert service is not None
    return str(service.status)


def echo() -> Plugin:
    plugin = Plugin("echo")

    @plugin.action()
    async def echo(message: Any) -> str:
        return f"{message.sender} in {message.room}: {message.text.removeprefix('echo: ')}"

    return plugin


async def test_e2_a_message_over_the_bridge_is_handled_and_its_answer_goes_back() -> None:
    async with far_end() as end, bridge(end, echo()) as runtime:
        assert status(runtime) == "running"
        await end.say({"id": "7", "room": "hall", "from": "ada", "text": "echo: good morning"})
        assert await end.hears() == {
            "in_reply_to": "7",
            "room": "hall",
            "status": "handled",
            "text": "bridge:ada in bridge:hall: good morning",
            "data": {},
        }
        assert await runtime.adapter.count_memories(room="bridge:hall", kind="message") == 2


async def test_messages_of_one_room_are_answered_in_order_while_another_room_waits_for_nobody() -> None:
    go_on = asyncio.Event()
    plugin = Plugin("slow")

    @plugin.action()
    async def wait(message: Any) -> str:
        await go_on.wait()
        return "waited"

    async with far_end() as end, bridge(end, plugin, echo()):
        await end.say({"id": "1", "room": "a", "text": "wait:"})
        await end.say({"id": "2", "room": "a", "text": "echo: two"})
        await end.say({"id": "3", "room": "b", "text": "echo: three"})
        assert (await end.hears())["in_reply_to"] == "3"
        go_on.set()
        assert [(await end.hears())["in_reply_to"] for _ in range(2)] == ["1", "2"]


async def test_malformed_json_is_logged_and_answered_and_the_next_message_is_handled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with far_end() as end, bridge(end, echo()) as runtime:
        bad = [
            "{not json",
            "[1, 2]",
            '{"text": 5}',
            b"\xff\xfe",
            "{}",
            '{"text": "x", "room": ""}',
            "[" * 50_000,
        ]
        with caplog.at_level(logging.WARNING):
            for frame in bad:
                await end.say(frame)
                assert "error" in await end.hears()
        assert sum("bad frame" in record.message for record in caplog.records) == 1, (
            "a flood is not logged whole"
        )
        assert runtime.metrics.failures["service websocket"] == len(bad)
        await end.say({"id": "9", "text": "echo: still here"})
        assert (await end.hears())["text"].endswith("still here")
        assert len(end.connections) == 1 and status(runtime) == "running"


async def test_what_the_store_refuses_is_answered_with_its_sentence_and_harms_nothing() -> None:
    async with far_end() as end, bridge(end, echo()) as runtime:
        await end.say({"id": "1", "text": "echo: a NUL \0 in it"})
        assert "NUL" in (await end.hears())["error"]
        await end.say({"id": "2", "text": "echo: fine"})
        assert (await end.hears())["status"] == "handled"
        assert status(runtime) == "running"


async def test_a_broken_connection_is_an_error_until_it_is_open_again() -> None:
    async with far_end() as end, bridge(end, echo()) as runtime:
        told: list[str] = []
        runtime.events.on("service:status", lambda fields: told.append(fields["status"]))
        await end.close()
        await eventually(lambda: status(runtime) == "error")
        assert (await say(runtime, "send: hello?")).actions[0].reason == "not_connected"
        await end.open()
        await eventually(lambda: status(runtime) == "running")
        await end.say({"id": "1", "text": "echo: back"})
        assert (await end.hears())["text"].endswith("back")
        assert told[0] == "error" and told[-1] == "running"


async def test_a_frame_beyond_the_bound_costs_the_connection_and_nothing_more() -> None:
    async with far_end() as end, bridge(end, echo()):
        await end.say('{"text": "' + "x" * 300_000 + '"}')
        await eventually(lambda: len(end.connections) == 2)
        await end.say({"id": "1", "text": "echo: again"})
        assert (await end.hears())["text"].endswith("again")


async def test_an_agent_whose_far_end_is_away_lives_and_connects_when_it_comes() -> None:
    async with far_end() as end:
        await end.close()
        async with bridge(end) as runtime:
            assert runtime.is_initialized and status(runtime) == "error"
            await end.open()
            await eventually(lambda: status(runtime) == "running")


async def test_retries_wait_longer_and_longer_and_a_connection_that_held_forgives() -> None:
    async with far_end() as end:
        await end.close()
        waits: list[float] = []

        class Listen(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "trying again" in record.msg:
                    waits.append(float(record.args[1]))  # type: ignore[index, arg-type]

        logger, listen = logging.getLogger("_swarm_agents"), Listen()
        logger.addHandler(listen)
        try:
            async with bridge(end) as runtime:
                await eventually(lambda: len(waits) >= 4)
                assert waits[:4] == [0.02, 0.04, 0.08, 0.16]
                await end.open()
                await eventually(lambda: status(runtime) == "running")
        finally:
            logger.removeHandler(listen)


async def test_stopping_closes_the_connection_after_what_is_in_hand() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    plugin = Plugin("slow")

    @plugin.action()
    async def wait(message: Any) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with far_end() as end:
        async with bridge(end, plugin) as runtime:
            await end.say({"id": "1", "text": "wait:"})
            await begun.wait()
            async with asyncio.TaskGroup() as group:
                group.create_task(runtime.stop())
                await eventually(lambda: status(runtime) == "stopping")
                go_on.set()
        assert (await end.hears())["text"] == "done"
        await end.connections[0].wait_closed()
        assert end.connections[0].close_code == 1000 and len(end.connections) == 1


async def test_an_agent_sends_through_the_bridge_and_what_came_over_it_is_not_echoed() -> None:
    async with far_end() as end, bridge(end) as runtime:
        assert (await say(runtime, "send: the report is ready")).response.text == "Sent."  # type: ignore[union-attr]
        assert await end.hears() == {"from": "tester", "text": "the report is ready", "data": {}}
        await end.say({"id": "1", "text": "send: echo me"})
        assert (await end.hears())["in_reply_to"] == "1"


async def test_the_token_goes_along_and_is_not_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "_swarm_agents"):
        async with far_end() as end, bridge(end, BRIDGE_TOKEN="s3cret-token"):
            assert end.authorizations == ["Bearer s3cret-token"]
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:1/", "ws://"])
async def test_without_a_usable_address_the_agent_lives_and_the_service_says_what_to_do(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with far_end() as end, bridge(end, echo(), BRIDGE_URL=url) as runtime:
        assert status(runtime) == "error"
        assert "set BRIDGE_URL" in caplog.text
        assert (await say(runtime, "echo: hello")).status == "handled"
