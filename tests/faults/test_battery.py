"""A short run of `make faults`, and what it stands on: the schedule that replays, and the line that is cut."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from swarm.testing import eventually
from tests.faults.battery import schedule
from tests.faults.battery.evidence import Evidence
from tests.faults.battery.run import run
from tests.faults.battery.wire import Wire

SEED = 7
SECONDS = 5.0
KINDS = ("kill_agent", "kill_coordinator", "swallow_postgres", "restart_nats", "hang_up_postgres", "raise")


@pytest.mark.timeout(150)
async def test_all_invariants_hold_through_a_short_run_of_the_battery(tmp_path: Path) -> None:
    report = await run(tmp_path, SEED, SECONDS, kinds=KINDS)
    assert report.ok, "\n".join(report.lines())
    assert sum(report.faults.values()) >= 3, report
    assert report.account["accepted"] == report.account["handled"] + report.account["dead"] > 50
    assert report.tasks["completed"] >= 1
    assert report.asks["reply"] >= 5
    evidence = Evidence.load(tmp_path / "evidence.json")
    for what in ("accepted", "run", "announced", "piece", "read", "quiet", "alive", "deposed", "recovered"):
        assert evidence.of(what), f"nothing of {what} was recorded"
    planned = json.loads((tmp_path / "schedule.json").read_text())["faults"]
    done = [event["kind"] for event in evidence.of("fault")]
    assert done == [fault["kind"] for fault in planned][: len(done)]


def test_a_seed_draws_the_same_schedule_again_and_another_seed_another() -> None:
    assert schedule.draw(7, 120) == schedule.draw(7, 120)
    assert schedule.draw(7, 120) != schedule.draw(8, 120)
    assert {fault.kind for seed in range(9) for fault in schedule.draw(seed, 120)} == set(schedule.KINDS)


async def test_a_wire_stalls_parts_and_swallows_and_is_whole_when_it_is_healed() -> None:
    served: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            served.append(line)
            writer.write(line)
        writer.close()

    clients: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        clients.append(writer)
        return reader, writer

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    wire = Wire(server.sockets[0].getsockname()[1])
    port = await wire.open()
    try:
        reader, writer = await connect()
        assert await _echo(reader, writer, b"one\n") == b"one\n"
        wire.stall()
        writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.readline()
        wire.heal()
        assert await reader.readline() == b"two\n"
        wire.swallow()
        writer.write(b"three\n")
        assert await _nothing_more(reader)
        assert served[-1] == b"three\n", "what was asked is done, and nobody hears"
        wire.heal()
        wire.part([os.getpid()])
        reader, writer = await connect()
        assert await _nothing_more(reader)
        wire.heal()
        reader, writer = await connect()
        assert await _echo(reader, writer, b"four\n") == b"four\n"
        wire.hang_up()
        assert await _nothing_more(reader)
        await eventually(lambda: not wire.open_links, seconds=5, what="no link")
    finally:
        for client in clients:
            client.close()
        await wire.close()
        server.close()
        await asyncio.gather(*(client.wait_closed() for client in clients), return_exceptions=True)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> bytes:
    writer.write(line)
    return await reader.readline()


async def _nothing_more(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(5):
            return await reader.read() == b""
    except ConnectionError:
        return True
