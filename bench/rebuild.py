"""A takeover over a full ledger: 100,000 waiting messages and 5,000 agents. The state of a term is rebuilt from rows.

Each round a coordinator is killed with SIGKILL and another is started beside nobody: measured is from the kill until it
answers, until it has settled every agent, and until an agent that is told something has it; and its CPU and memory.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from bench.report import Rounds, Row
from bench.servers import House, open_house
from bench.tell import TAKER, TELLER
from swarm.ids import new_id

AGENTS: Final = 5_000
WAITING: Final = 100_000
ROUNDS: Final = 3
LOOK_SECONDS: Final = 0.05
ACTIVE_SECONDS: Final = 60.0


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    async with open_house(folder, {"teller-0": TELLER, "taker-0": TAKER}, stores=True) as house:
        await house.wake(["taker-0"])
        await _fill(house)
        for _ in range(ROUNDS):
            rounds.add(**await _take_over(house))
    notes = [
        f"{AGENTS:,} agents registered, {WAITING:,} messages waiting for {AGENTS:,} that are away; the lease of 3 s is "
        "waited out and counted. Until what is told is handled: the grace for stragglers is over, then, too."
    ]
    figures = rounds.figures
    for name in figures:
        notes.append(f"{name}: {rounds.median(name):.2f}")
    row = rounds.row(
        "P9", f"takeover over {WAITING:,} waiting and {AGENTS:,} agents, s / the lease", "s", "handled_s",
        "lease_s", bound="most", limit=3.0,
    )  # fmt: skip
    return [row], notes, figures


async def _fill(house: House) -> None:
    """Rows as provisioning and accepting leave them, written at once."""
    await house.database.execute("set search_path = bench")
    await house.database.execute(
        "insert into agents (id, name, desired) select gen_random_uuid(), 'away-' || n, 'stopped'"
        " from generate_series(1, $1::integer) n",
        AGENTS,
    )
    await house.database.execute(
        "with m as (insert into messages (id, sender, address, room, kind, content, accepted_at)"
        "  select gen_random_uuid(), (select id from agents where name = 'teller-0'), 'away-' || (n % $2::integer + 1),"
        "  'r' || n % 7, 'tell', '{\"text\": \"waits\"}', now_ms() from generate_series(1, $1::integer) n returning *)"
        " insert into deliveries (message, sender, recipient, room, kind, accepted_at)"
        " select m.id, m.sender, a.id, m.room, 'tell', m.accepted_at from m join agents a on a.name = m.address",
        WAITING,
        AGENTS,
    )
    await house.database.execute("analyze")


async def _take_over(house: House) -> dict[str, float]:
    before = await house.swarm.ping()
    began = time.monotonic()
    house.replace_coordinator()
    while True:
        try:
            after = await house.swarm.ping()
        except Exception:
            after = before
        if after["epoch"] != before["epoch"]:
            break
        if time.monotonic() - began > ACTIVE_SECONDS:
            raise RuntimeError(f"No coordinator took over in {ACTIVE_SECONDS:.0f} s.")
        await asyncio.sleep(LOOK_SECONDS)
    answered = time.monotonic() - began
    told = await house.swarm.tell("taker-0", "take: it", id=new_id())
    while (await house.swarm.message(told["id"]))["deliveries"][0]["state"] != "handled":
        if time.monotonic() - began > ACTIVE_SECONDS:
            raise RuntimeError(f"Nothing was routed in {ACTIVE_SECONDS:.0f} s.")
        await asyncio.sleep(LOOK_SECONDS)
    return {"answered_s": answered, "handled_s": time.monotonic() - began, "lease_s": 3.0}
