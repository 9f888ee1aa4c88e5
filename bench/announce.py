"""P3: an announcement to 200 agent processes, until all have handled it, beside a publish to 200 raw subscribers.

Ours is durable: accepted in one transaction with 200 deliveries, routed, handled by 200 turns with an effect and a
commit each, and reported. A raw publish arrives or does not. So the goal is a time, and the ratio only informs. The
raw subscribers are connections of their own in four processes.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.report import Rounds, Row
from bench.servers import House, open_house
from bench.tell import SIZE, TAKER
from bench.usage import Meter, children
from bench.workers import Worker

AGENTS: Final = 200
HEARERS: Final = 4
"""Processes of raw subscribers, with a share of the connections each."""
ROUNDS: Final = 5
LOOK_SECONDS: Final = 0.02
NAMES: Final = tuple(f"taker-{n:03}" for n in range(AGENTS))
CONNECTIONS: Final = "select count(*) from pg_stat_activity where backend_type = 'client backend'"


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(folder, dict.fromkeys(NAMES, TAKER), stores=True))
        hearers = [await Worker.start("hear", "uvloop", house.plain_nats.url) for _ in range(HEARERS)]
        publisher = await Worker.start("publish", "uvloop", house.plain_nats.url)
        for worker in (*hearers, publisher):
            stack.push_async_callback(worker.end)
        for start in range(0, AGENTS, 25):
            await house.wake(NAMES[start : start + 25])
        await asyncio.gather(*(worker.order(open=AGENTS // HEARERS) for worker in hearers))
        await _announce(house)
        for _ in range(ROUNDS):
            rounds.add(raw_s=await _publish(publisher, hearers))
            rounds.add(**await _announce(house))
        rounds.add(accepted_ms=await _accept(house))
    rows = [
        Row(goal="P3", what=f"announce to {AGENTS} processes until all have handled it / raw publish", unit="s",
            ours=rounds.median("ours_s"), baseline=rounds.median("raw_s"), ratio=rounds.ratio("ours_s", "raw_s"),
            judged="ours", bound="most", limit=2.0),
        Row(goal="P3", what="database connections at most, all of the server's", unit="",
            ours=max(rounds.figures["connections"]), judged="ours", bound="most", limit=2 * AGENTS),
        Row(goal="P3", what="announce until accepted (no wait)", unit="ms", ours=rounds.median("accepted_ms")),
    ]  # fmt: skip
    notes = [
        f"{AGENTS} processes, each turn with an effect, a memory and a commit of its own. CPU ms for one announcement: "
        + ", ".join(
            f"{who} {rounds.median(f'cpu_ms_{who}'):.0f}" for who in ("agents", "coordinator", "postgres")
        )
        + "."
    ]
    return rows, notes, rounds.figures


async def _publish(publisher: Worker, hearers: list[Worker]) -> float:
    """Seconds until the last of the raw subscribers had it."""
    sent, *heard = await asyncio.gather(
        publisher.order(size=SIZE, after=0.1), *(worker.order(hear=1) for worker in hearers)
    )
    return float(max(each["last"] for each in heard) - sent["at"])


async def _announce(house: House) -> dict[str, float]:
    postgres = house.postgres.pid or 0
    most = [0]
    meter = Meter(
        agents=[house.pids[name] for name in NAMES],
        coordinator=[house.pids["coordinator"]],
        postgres=[postgres, *children(postgres)],
    )

    async def watch() -> None:
        while True:
            most.append(await house.database.fetchval(CONNECTIONS))
            await asyncio.sleep(LOOK_SECONDS)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        meter.start()
        began = time.monotonic()
        report = await house.swarm.announce("take: " + "x" * (SIZE - 6), wait=60)
        took = time.monotonic() - began
        spent = meter.stop()
        watching.cancel()
    if report["handled"] != AGENTS or report["pending"]:
        raise RuntimeError(f"{report['handled']} of {AGENTS} have handled it.")
    cpu = {f"cpu_ms_{who}": seconds * 1000 for who, seconds in spent.items()}
    return {"ours_s": took, "connections": float(max(most))} | cpu


async def _accept(house: House) -> float:
    began = time.monotonic()
    await house.swarm.announce("take: " + "x" * (SIZE - 6))
    return (time.monotonic() - began) * 1000
