"""P2: durable tells, 8 agents to 8 agents, each handled with an effect, against 8 raw writers that insert and commit.

Each tell is a transaction of its own (a teller tells outside of a turn; within one, all tells of the turn would be
one commit). Three things are measured on one Postgres, each beside the raw writers in the same round:

    away    the recipients do not run: accepting alone, and all of it waits
    busy    they run and handle what comes: accepted, and handled, a second, as fast as it goes
    calm    each teller tells 10 a second: from accepted to handled without a queue
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

from bench.report import Rounds, Row
from bench.servers import House, open_house
from bench.usage import Meter, children
from bench.workers import Worker

AGENTS: Final = 8
SIZE: Final = 1024
ROUNDS: Final = 3
SECONDS: Final = {"away": 1.5, "busy": 2.0, "calm": 3.0}
PAUSE: Final = {"away": 0.0, "busy": 0.0, "calm": 0.1}
TELLERS: Final = tuple(f"teller-{n}" for n in range(AGENTS))
TAKERS: Final = tuple(f"taker-{n}" for n in range(AGENTS))
TABLE: Final = (
    "create table bench_rows (id uuid primary key, sender text not null, recipient text not null, "
    "content jsonb not null, at bigint not null)"
)

TELLER = '''
import asyncio
import contextvars
import time

from swarm import Plugin

plugin = Plugin("teller")


@plugin.action(timeout=60)
async def drive(message, runtime):
    """Tells all recipients in turn, for some seconds."""
    order = message.content.data
    text = "take: " + "x" * (order["size"] - 6)
    accepted, times = {name: [] for name in order["to"]}, []

    async def tell():
        began = time.monotonic()
        end, number = began + order["seconds"], order["first"]
        while (start := time.monotonic()) < end:
            name = order["to"][number % len(order["to"])]
            receipt = await runtime.peers.tell(name, text)
            now = time.monotonic()
            accepted[name].append([receipt.id, now])
            times.append(now - start)
            number += 1
            if order["pause"]:
                await asyncio.sleep(order["pause"])
        return {"data": {"accepted": accepted, "times": times, "began": began, "ended": time.monotonic()}}

    # Outside of this turn: a tell within it would wait for its commit.
    async with asyncio.TaskGroup() as group:
        task = asyncio.get_running_loop().create_task(tell(), context=contextvars.Context())
        return await task
'''
TAKER = '''
import asyncio
import time

from swarm import Plugin

plugin = Plugin("taker")
handled = {}
more = asyncio.Event()


@plugin.action()
async def take(message, runtime):
    """Takes a message: the effect is a memory, written with the turn."""
    await runtime.remember(kind="effect", data={"message": message.id})


@plugin.action(timeout=60)
async def count(message):
    """When each of the messages named was handled; waits until all are."""
    wanted = message.content.data["ids"]
    while not handled.keys() >= set(wanted):
        more.clear()
        await more.wait()
    return {"data": {"handled": {id: handled.pop(id) for id in wanted}}}


def note(fields):
    handled[fields["message"].id] = time.monotonic()
    more.set()


async def begin(runtime):
    runtime.events.on("turn:ended", note)


plugin.start = begin
'''
AGENTS_OF_THIS: Final = dict.fromkeys(TELLERS, TELLER) | dict.fromkeys(TAKERS, TAKER)


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    async with open_house(folder, AGENTS_OF_THIS, stores=True) as house:
        await house.database.execute(TABLE)
        writers = [await Worker.start("write", "uvloop", house.postgres.url) for _ in range(AGENTS)]
        try:
            await house.wake(TELLERS)
            await _warm(house, writers)
            waiting = await _rounds(house, writers, rounds, "away")
            await house.wake(TAKERS)
            await handled(house, waiting)
            for part in ("busy", "calm"):
                await _rounds(house, writers, rounds, part)
        finally:
            for writer in writers:
                await writer.end()
    return _rows(rounds), _notes(rounds), rounds.figures


Accepted = dict[str, dict[str, float]]
"""For each recipient the ids of messages, and when each was accepted."""


async def _warm(house: House, writers: Sequence[Worker]) -> None:
    """Connections open, statements prepared."""
    await asyncio.gather(*(writer.order(size=SIZE, seconds=0.2, pause=0.0) for writer in writers))
    await tell(house, TELLERS, 0.2, 0.0, TELLERS)


async def _rounds(house: House, writers: Sequence[Worker], rounds: Rounds, part: str) -> Accepted:
    """Rounds of raw and ours in turn; returns what is still to be handled."""
    left: Accepted = {}
    seconds, pause = SECONDS[part], PAUSE[part]
    for _ in range(ROUNDS):
        raw = await asyncio.gather(
            *(writer.order(size=SIZE, seconds=seconds, pause=pause) for writer in writers)
        )
        rounds.add(**{f"raw_{part}_per_s": rate(raw), f"raw_{part}_p50_ms": _p50(raw)})
        meter = _meter(house)
        meter.start()
        told = await tell(house, TELLERS, seconds, pause, TAKERS)
        sent = accepted(told)
        rounds.add(**{f"ours_{part}_accepted_per_s": rate(told), f"ours_{part}_accept_p50_ms": _p50(told)})
        if part == "away":
            for name, ids in sent.items():
                left.setdefault(name, {}).update(ids)
        else:
            done = await handled(house, sent)
            began = min(each["began"] for each in told)
            rounds.add(**{f"ours_{part}_handled_per_s": len(done) / (max(done.values()) - began)})
            waits = [done[id] - at for ids in sent.values() for id, at in ids.items()]
            rounds.add(**{f"ours_{part}_to_handled_p50_ms": median(waits) * 1000})
        count = sum(map(len, sent.values()))
        rounds.add(**{f"{part}_cpu_us_{who}": cpu / count * 1e6 for who, cpu in meter.stop().items()})
    return left


async def tell(
    house: House, tellers: Sequence[str], seconds: float, pause: float, to: Sequence[str]
) -> list[dict[str, Any]]:
    """Each teller tells `to` in turn for some seconds: what was accepted and when, how long each tell took."""
    answers = await asyncio.gather(
        *(
            house.swarm.ask(
                name,
                "drive: now",
                data={
                    "size": SIZE, "seconds": seconds, "pause": pause, "first": n,
                    "to": [each for each in to if each != name],
                },
                timeout=60,
            )
            for n, name in enumerate(tellers)
        )
    )  # fmt: skip
    return [answer["data"] for answer in answers]


async def handled(house: House, sent: Accepted) -> dict[str, float]:
    """When each message was handled, once all are."""
    answers = await asyncio.gather(
        *(
            house.swarm.ask(name, "count: now", data={"ids": list(ids)}, timeout=60)
            for name, ids in sent.items()
        )
    )
    return {id: at for answer in answers for id, at in answer["data"]["handled"].items()}


def accepted(told: Sequence[dict[str, Any]]) -> Accepted:
    found: Accepted = {}
    for each in told:
        for name, ids in each["accepted"].items():
            found.setdefault(name, {}).update(ids)
    return {name: ids for name, ids in found.items() if ids}


def rate(found: Sequence[dict[str, Any]]) -> float:
    span = max(each["ended"] for each in found) - min(each["began"] for each in found)
    return float(sum(len(each["times"]) for each in found) / span)


def _p50(found: Sequence[dict[str, Any]]) -> float:
    times: list[float] = [time for each in found for time in each["times"]]
    return median(times) * 1000


def _meter(house: House) -> Meter:
    postgres = house.postgres.pid or 0
    return Meter(
        tellers=[house.pids[name] for name in TELLERS],
        takers=[house.pids[name] for name in TAKERS if name in house.pids],
        coordinator=[house.pids["coordinator"]],
        postgres=[postgres, *children(postgres)],
        nats=[house.nats.pid or 0],
    )


def _rows(rounds: Rounds) -> list[Row]:
    def row(what: str, ours: str, baseline: str, unit: str = "/s", **asked: Any) -> Row:
        return rounds.row("P2", what, unit, ours, baseline, **asked)

    return [
        row("tells accepted/s, recipients away / raw commits", "ours_away_accepted_per_s", "raw_away_per_s",
            bound="least", limit=0.8),
        row("tells accepted/s while they are handled / raw", "ours_busy_accepted_per_s", "raw_busy_per_s",
            bound="least", limit=0.8),
        row("tells accepted and handled/s / raw", "ours_busy_handled_per_s", "raw_busy_per_s",
            bound="least", limit=0.4),
        row("accepted → handled, p50, 8 × 10/s / raw commit", "ours_calm_to_handled_p50_ms", "raw_calm_p50_ms", "ms",
            bound="most", limit=5.0),
        row("one tell until accepted, p50, 8 × 10/s / raw commit", "ours_calm_accept_p50_ms", "raw_calm_p50_ms", "ms"),
        row("accepted → handled, p50, as fast as it goes / raw commit", "ours_busy_to_handled_p50_ms",
            "raw_busy_p50_ms", "ms"),
    ]  # fmt: skip


def _notes(rounds: Rounds) -> list[str]:
    notes = [
        f"1 KiB each; {AGENTS} raw writers are processes on uvloop with a connection each; everything on one Postgres "
        "with fsync. Tellers tell outside of a turn, so that each tell is a transaction of its own, as each raw row is."
    ]
    for part, name in (("away", "recipients away"), ("busy", "while handled")):
        who = ("tellers", "takers", "coordinator", "postgres", "nats")
        spent = ", ".join(f"{each} {rounds.median(f'{part}_cpu_us_{each}'):.0f}" for each in who)
        notes.append(f"CPU µs a tell, {name}: {spent}.")
    return notes
