"""P6: what a message costs in a ledger that has seen a million, and among a thousand registered agents.

Three swarms run at once, each with a Postgres and a coordinator of its own, and are measured in turn:

    young   10 agents, an empty ledger: the baseline
    old     10 agents, 1,000,000 handled messages in the ledger
    large   1,000 agents registered, an empty ledger

The cost of a message is the CPU time of all processes from its tell to its commit. That says more than a rate on a
machine that others use; the rates stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from typing import Final

from bench.report import Rounds, Row
from bench.servers import SWARM, House, open_house
from bench.tell import TAKER, TELLER, accepted, handled, rate, tell
from bench.usage import Meter, children

TELLERS: Final = ("teller-0", "teller-1")
TAKERS: Final = ("taker-0", "taker-1")
AGENTS: Final = dict.fromkeys(TELLERS, TELLER) | dict.fromkeys(TAKERS, TAKER)
FEW: Final = 10
MANY: Final = 1_000
HANDLED: Final = 1_000_000
ROUNDS: Final = 5
SECONDS: Final = 2.0
CALM_SECONDS: Final = 4.0
PAUSE: Final = 0.05
SEED: Final = """
insert into messages (id, sender, address, room, kind, content, accepted_at)
select ('018f' || lpad(to_hex(n), 28, '0'))::uuid, s.id, 'taker-' || n %% 2, 'dm:' || n %% 500, 'tell',
       jsonb_build_object('text', repeat('x', 64)), now_ms() - 86400000
from generate_series(1, %(count)s) n join agents s on s.name = 'teller-' || n / 2 %% 2;
insert into deliveries (message, sender, recipient, room, kind, state, attempts, accepted_at, dispatched_at, handled_at)
select m.id, m.sender, r.id, m.room, 'tell', 'handled', 1, m.accepted_at, m.accepted_at, m.accepted_at + 5
from messages m join agents r on r.name = m.address
"""


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    async with AsyncExitStack() as stack:
        houses: dict[str, House] = {}
        for name in ("young", "old", "large"):
            (folder / name).mkdir()
            houses[name] = await stack.enter_async_context(open_house(folder / name, AGENTS, stores=True))
            await houses[name].register((MANY if name == "large" else FEW) - len(AGENTS))
        await _seed(houses["old"])
        for house in houses.values():
            await house.wake([*TELLERS, *TAKERS])
            await handled(house, accepted(await tell(house, TELLERS, 0.5, 0.0, TAKERS)))
        for number in range(ROUNDS):
            names = list(houses)
            for name in names[number % 3 :] + names[: number % 3]:
                rounds.add(**{f"{name}_{what}": value for what, value in (await _cost(houses[name])).items()})
        rows = await houses["old"].database.fetchval(f"select count(*) from {SWARM}.deliveries")
    return _rows(rounds), _notes(rounds, rows), rounds.figures


async def _seed(house: House) -> None:
    """A million messages that were handled yesterday, as autovacuum leaves them."""
    database = house.database
    await database.execute(f"set search_path to {SWARM}")
    await database.execute("set session_replication_role = replica")  # no check of foreign keys, row by row
    for statement in (SEED % {"count": HANDLED}).split(";\n"):
        await database.execute(statement, timeout=600)
    await database.execute("set session_replication_role = origin")
    for table in ("messages", "deliveries"):
        await database.execute(f"vacuum (analyze, freeze) {table}", timeout=600)
    await database.execute("checkpoint", timeout=600)


async def _cost(house: House) -> dict[str, float]:
    meter = _meter(house)
    meter.start()
    told = await tell(house, TELLERS, SECONDS, 0.0, TAKERS)
    sent = accepted(told)
    done = await handled(house, sent)
    spent = meter.stop()
    count = len(done)
    began = min(each["began"] for each in told)
    found = {f"cpu_us_{who}": cpu / count * 1e6 for who, cpu in spent.items()}
    calm = accepted(await tell(house, TELLERS, CALM_SECONDS, PAUSE, TAKERS))
    done_calm = await handled(house, calm)
    waits = [done_calm[id] - at for ids in calm.values() for id, at in ids.items()]
    return found | {
        "cpu_us": sum(spent.values()) / count * 1e6,
        "accepted_per_s": rate(told),
        "handled_per_s": count / (max(done.values()) - began),
        "to_handled_p50_ms": median(waits) * 1000,
    }


def _meter(house: House) -> Meter:
    postgres = house.postgres.pid or 0
    return Meter(
        agents=[house.pids[name] for name in AGENTS],
        coordinator=[house.pids["coordinator"]],
        postgres=[postgres, *children(postgres)],
    )


def _rows(rounds: Rounds) -> list[Row]:
    names: Mapping[str, str] = {
        "old": "1,000,000 handled rows / none",
        "large": "1,000 agents registered / 10",
    }
    found = []
    for name, what in names.items():
        found += [
            rounds.row("P6", f"CPU of a message, {what}", "µs", f"{name}_cpu_us", "young_cpu_us",
                       bound="most", limit=1.2),
            rounds.row("P6", f"accepted → handled, p50, 2 × 20/s, {what}", "ms", f"{name}_to_handled_p50_ms",
                       "young_to_handled_p50_ms", bound="most", limit=1.2),
            rounds.row("P6", f"handled/s, {what}", "/s", f"{name}_handled_per_s", "young_handled_per_s"),
        ]  # fmt: skip
    return found


def _notes(rounds: Rounds, rows: int) -> list[str]:
    notes = [f"The old ledger ended with {rows:,} deliveries. {ROUNDS} rounds of the three swarms in turn."]
    for who in ("agents", "coordinator", "postgres"):
        each = ", ".join(
            f"{name} {rounds.median(f'{name}_cpu_us_{who}'):.0f}" for name in ("young", "old", "large")
        )
        notes.append(f"CPU µs a message, {who}: {each}.")
    return notes
