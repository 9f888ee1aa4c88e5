"""P1: an ask between two agents, through the coordinator and a whole turn, against raw nats-py between two processes.

Two baselines, because our processes run on uvloop and nats-py by default on asyncio: the first is what one would
write by hand, the second the same on our event loop. The goals count against both.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.report import Rounds, Row
from bench.servers import House, open_house
from bench.usage import Meter
from bench.workers import Worker

SIZE: Final = 1024
ROUNDS: Final = 5
SECONDS: Final = 1.5
WARM_SECONDS: Final = 0.7
LOOPS: Final = ("asyncio", "uvloop")
CASES: Final = (("one", 1), ("many", 64))

ASKER = '''
import asyncio
import time

from swarm import Plugin

plugin = Plugin("asker")


@plugin.action(timeout=60)
async def drive(message, runtime):
    """Asks for some seconds, so many at a time; each lane in a room of its own, as rooms are handled in turn."""
    order = message.content.data
    text = "echo: " + "x" * (order["size"] - 6)
    times = []
    began = time.monotonic()
    end = began + order["seconds"]

    async def lane(number):
        room = f"lane-{number}"
        while (start := time.monotonic()) < end:
            reply = await runtime.peers.ask("answerer", text, room=room)
            times.append(time.monotonic() - start)
            assert len(reply.text) == len(text), reply

    async with asyncio.TaskGroup() as group:
        for number in range(order["in_flight"]):
            group.create_task(lane(number))
    return {"data": {"times": times, "seconds": time.monotonic() - began}}
'''
ANSWERER = '''
from swarm import Plugin

plugin = Plugin("answerer")


@plugin.action()
async def echo(message):
    """Says what it hears."""
    return message.text
'''


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    async with open_house(folder, {"asker": ASKER, "answerer": ANSWERER}, stores=False) as house:
        await house.wake(["asker", "answerer"])
        raw = await _start_raw(house)
        try:
            rounds = await _rounds(house, raw)
        finally:
            for pair in raw.values():
                for worker in pair:
                    await worker.end()
    return _rows(rounds), _notes(rounds), rounds.figures


async def _start_raw(house: House) -> dict[str, tuple[Worker, Worker]]:
    url = house.plain_nats.url
    return {
        loop: (await Worker.start("answer", loop, url), await Worker.start("ask", loop, url))
        for loop in LOOPS
    }


async def _rounds(house: House, raw: dict[str, tuple[Worker, Worker]]) -> Rounds:
    rounds = Rounds()
    pids = house.pids
    nats = house.nats.pid or 0
    ours = Meter(
        asker=[pids["asker"]], coordinator=[pids["coordinator"]], answerer=[pids["answerer"]], nats=[nats]
    )
    meters = {
        loop: Meter(asker=[asker.pid], answerer=[answerer.pid], nats=[house.plain_nats.pid or 0])
        for loop, (answerer, asker) in raw.items()
    }
    for number in range(-1, ROUNDS):
        seconds = WARM_SECONDS if number < 0 else SECONDS
        for case, in_flight in CASES:
            order = {"size": SIZE, "seconds": seconds, "in_flight": in_flight}
            ours.start()
            said = await house.swarm.ask("asker", "drive: now", data=order, timeout=60)
            spent = ours.stop()
            if number >= 0:
                _add(rounds, f"ours_{case}", said["data"], spent)
            for loop, (_, asker) in raw.items():
                meters[loop].start()
                found = await asker.order(**order)
                spent = meters[loop].stop()
                if number >= 0:
                    _add(rounds, f"{loop}_{case}", found, spent)
    return rounds


def _add(rounds: Rounds, name: str, found: dict[str, Any], spent: dict[str, float]) -> None:
    """Milliseconds, asks a second, and CPU microseconds an ask."""
    times = found["times"]
    rounds.add(**{f"{name}_p50_ms": median(times) * 1000, f"{name}_per_s": len(times) / found["seconds"]})
    rounds.add(**{f"{name}_cpu_us_{who}": cpu / len(times) * 1e6 for who, cpu in spent.items()})


def _rows(rounds: Rounds) -> list[Row]:
    rows = []
    for loop, name in (("asyncio", "raw nats-py"), ("uvloop", "raw nats-py on uvloop")):
        rows.append(
            rounds.row(
                "P1", f"ask, p50, 1 in flight / {name}", "ms", "ours_one_p50_ms", f"{loop}_one_p50_ms",
                bound="most", limit=2.0,
            )
        )  # fmt: skip
        rows.append(
            rounds.row(
                "P1", f"asks/s, 64 in flight / {name}", "/s", "ours_many_per_s", f"{loop}_many_per_s",
                bound="least", limit=0.5,
            )
        )  # fmt: skip
    return rows


def _notes(rounds: Rounds) -> list[str]:
    notes = [
        "Asker and answerer are agents forked from a warm parent, with a private store in memory; log level INFO."
    ]
    for name, case in (("1 in flight", "one"), ("64 in flight", "many")):
        ours = _spent(rounds, f"ours_{case}", ("asker", "coordinator", "answerer", "nats"))
        raw = _spent(rounds, f"uvloop_{case}", ("asker", "answerer", "nats"))
        notes.append(f"CPU µs an ask, {name}: {ours}; raw on uvloop: {raw}.")
    return notes


def _spent(rounds: Rounds, name: str, who: tuple[str, ...]) -> str:
    return ", ".join(f"{each} {rounds.median(f'{name}_cpu_us_{each}'):.0f}" for each in who)
