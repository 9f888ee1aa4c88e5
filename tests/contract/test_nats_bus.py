"""What only a real connection can suffer: servers that are late, die, freeze, or no longer know us."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from pathlib import Path

import pytest
from nats.errors import FlushTimeoutError, ProtocolError

from bus.bus import Incoming
from bus.buses import nats as nats_module
from bus.buses.nats import connect
from bus.buses.nats_client import LeanClient
from bus.credentials import Authority
from bus.envelope import read_body
from bus.errors import BadMessage, Disconnected, Refused
from swarm.testing import eventually, others_run
from tests.contract.conftest import NatsWire, envelope
from tests.servers import NatsServer, free_port


async def test_without_a_server_connecting_ends_at_its_deadline_with_a_sentence() -> None:
    credentials = Authority.new("t").mint("agent", "agent")
    url = f"nats://someone:secret@127.0.0.1:{free_port()}"
    started = time.monotonic()
    with pytest.raises(Disconnected, match="is it running") as caught:
        await connect(url, credentials, deadline=0.3)
    assert 0.25 < time.monotonic() - started < 5
    assert "secret" not in str(caught.value)


async def test_a_server_that_starts_late_is_reached(tmp_path: Path) -> None:
    server, authority = NatsServer(tmp_path), Authority.new("t")
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect(server.url, authority.mint("agent", "agent"), deadline=30))
        await others_run()
        server.start(authority.server_config(port=server.port))
        try:
            bus = await connecting
            assert bus.connected
            await bus.close()
        finally:
            server.kill()


async def test_credentials_of_another_swarm_are_refused_at_once(nats_wire: NatsWire) -> None:
    stranger = Authority.new("t").mint("agent", "agent")
    started = time.monotonic()
    with pytest.raises(Refused, match="refused the credentials of agent"):
        await connect(nats_wire.server.url, stranger, deadline=60)
    assert time.monotonic() - started < 10


async def test_a_bus_whose_server_no_longer_knows_it_ends_instead_of_staying_deaf(
    nats_wire: NatsWire,
) -> None:
    bus = await nats_wire.connect("agent")
    nats_wire.server.kill()
    nats_wire.server.start(Authority.new("t").server_config(port=nats_wire.server.port))
    async with asyncio.timeout(30):
        await bus.wait_closed()
    with pytest.raises(Disconnected):
        await bus.publish("t.up.agent.tell", envelope())


async def test_a_server_killed_again_and_again_is_found_each_time(nats_wire: NatsWire) -> None:
    coordinator, agent = await nats_wire.connect("coordinator"), await nats_wire.connect("agent")
    seen: list[Incoming] = []
    await coordinator.subscribe("t.up.*.*", seen.append)
    for round_ in range(4):
        await nats_wire.cut()
        await eventually(lambda: not agent.connected and not coordinator.connected)
        await nats_wire.heal()
        await eventually(lambda: agent.connected and coordinator.connected)
        await agent.publish("t.up.agent.tell", envelope(body=round_))
        await eventually(lambda: seen)
        assert read_body(seen.pop().envelope, int) == round_
    assert agent.counters["reconnects"] == 4


async def test_a_callback_that_fails_does_not_stop_the_reconnecting(nats_wire: NatsWire) -> None:
    def fail(_connected: bool) -> None:
        raise ValueError("a bug")

    bus = await nats_wire.connect("agent", fail)
    await nats_wire.cut()
    await eventually(lambda: not bus.connected)
    await nats_wire.heal()
    await eventually(lambda: bus.connected)


async def test_a_frozen_server_with_a_full_socket_is_given_up_and_found_again(
    nats_wire: NatsWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """nats-py waits for ever in wait_closed when the peer does not read; then it never reconnects."""
    monkeypatch.setattr(nats_module, "PING_SECONDS", 0.1)
    states: list[bool] = []
    bus = await nats_wire.connect("agent", states.append)
    nats_wire.server.freeze()
    async with asyncio.TaskGroup() as group:

        async def flood() -> None:
            while not states:
                await bus.publish("t.up.agent.tell", envelope(body="x" * 500_000))
                await others_run()

        group.create_task(flood())
        await eventually(lambda: states == [False], seconds=20)
    nats_wire.server.thaw()
    await eventually(lambda: bus.connected, seconds=20)
    with pytest.raises(Exception, match="Nobody listens"):
        await bus.request("t.up.agent.ask", envelope(), timeout=10)


async def test_a_pong_that_comes_after_its_flush_gave_up_does_not_deafen_the_client(
    nats_wire: NatsWire,
) -> None:
    """Stock nats-py sets the result of a cancelled future then, and its read loop ends for good."""
    coordinator, agent = await nats_wire.connect("coordinator"), await nats_wire.connect("agent")
    seen: list[Incoming] = []
    await agent.subscribe("t.down.agent.1", seen.append)
    client = agent._client  # type: ignore[union-attr]
    nats_wire.server.freeze()
    with pytest.raises(FlushTimeoutError):
        await client.flush(0.05)  # type: ignore[arg-type]
    nats_wire.server.thaw()
    await coordinator.publish("t.down.agent.1", envelope())
    await eventually(lambda: seen)
    assert agent.counters["reconnects"] == 0


async def test_closing_while_the_server_is_frozen_takes_seconds_not_for_ever(nats_wire: NatsWire) -> None:
    bus = await nats_wire.connect("agent")
    nats_wire.server.freeze()
    for _ in range(3):
        await bus.publish("t.up.agent.tell", envelope(body="x" * 300_000))
    async with asyncio.timeout(20):
        await bus.drain(0.2)
        await bus.wait_closed()


async def test_closing_while_the_server_is_gone_ends_the_bus(nats_wire: NatsWire) -> None:
    bus = await nats_wire.connect("agent")
    await nats_wire.cut()
    await eventually(lambda: not bus.connected)
    async with asyncio.timeout(10):
        await bus.close()
        await bus.wait_closed()


async def test_a_server_with_a_smaller_bound_gives_a_sentence_not_a_broken_connection(tmp_path: Path) -> None:
    server, authority = NatsServer(tmp_path), Authority.new("t")
    config = authority.server_config(port=server.port).replace("max_payload: 2097152", "max_payload: 65536")
    server.start(config)
    try:
        bus = await connect(server.url, authority.mint("agent", "agent"))
        with pytest.raises(BadMessage, match="max_payload"):
            await bus.publish("t.up.agent.tell", envelope(body="x" * 100_000))
        assert bus.connected
        await bus.close()
    finally:
        server.kill()


async def test_the_log_says_when_the_connection_is_lost_and_back_and_shows_no_secret(
    nats_wire: NatsWire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bus")
    credentials = nats_wire.authority.mint("agent", "agent")
    bus = await connect(nats_wire.server.url, credentials)
    await nats_wire.cut()
    await eventually(lambda: "agent lost the bus" in caplog.text)
    await nats_wire.heal()
    await eventually(lambda: "agent is back on the bus" in caplog.text)
    await bus.close()
    assert credentials.seed not in caplog.text and credentials.jwt not in caplog.text


STREAM = (
    b"PING\r\nMSG t.a 1 5\r\nhello\r\n+OK\r\nMSG t.b 2 _INBOX.x.1 0\r\n\r\n"
    b"HMSG _INBOX.x.2 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\nMSG t.c 1 9\r\nMSG a\r\n b\r\nPONG\r\n"
    b"-ERR 'Permissions Violation for Publish to \"T.x\"'\r\nHMSG t.d 2 r.r 19 22\r\nNATS/1.0\r\na: bc\r\n\r\nxyz\r\n"
)


@pytest.mark.parametrize("seed", range(20))
async def test_the_parser_sees_the_same_however_the_bytes_are_cut(seed: int) -> None:
    seen: list[tuple[object, ...]] = []
    refusals: list[str] = []
    client = LeanClient(refusals.append)
    client._flush_queue = asyncio.Queue()
    for sid in (1, 2):
        client._receivers[sid] = lambda *got, sid=sid: seen.append((sid, *got))
    chance = random.Random(seed)
    at = 0
    while at < len(STREAM):
        step = 1 if seed == 0 else chance.randint(1, 40)
        await client._ps.parse(STREAM[at : at + step])
        at += step
    assert seen == [
        (1, "t.a", "", b"hello", ""),
        (2, "t.b", "_INBOX.x.1", b"", ""),
        (1, "_INBOX.x.2", "", b"", "503"),
        (1, "t.c", "", b"MSG a\r\n b", ""),
        (2, "t.d", "r.r", b"xyz", ""),
    ]
    assert refusals == ['Permissions Violation for Publish to "T.x"']


@pytest.mark.parametrize(
    "noise", [b"WHAT\r\n", b"MSG a b c d e\r\n", b"MSG t 1 -5\r\n", b"HMSG t x 1\r\n", b"INFO {\r\n"]
)
async def test_noise_from_the_server_is_a_protocol_error_so_that_the_client_reconnects(noise: bytes) -> None:
    client = LeanClient(lambda _text: None)
    with pytest.raises(ProtocolError):
        await client._ps.parse(noise)
