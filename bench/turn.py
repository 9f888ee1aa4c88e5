"""P5: one whole turn with everything on: 3 providers, 5 actions, 2 evaluators, a model that only answers.

In memory and on Postgres, in this process alone (the server's CPU is told beside it); and the growth of memory
over many turns. elizaOS's own figures for this work, measured before the project, stand in `ELIZA`.
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from bench.report import Rounds, Row
from bench.usage import Meter, children, memory_mb
from bench.work import CHARACTER, Choosing, plugin
from deploy.embedded.postgres import EmbeddedPostgres
from swarm.agent.runtime import AgentRuntime
from swarm.ids import string_to_uuid
from swarm.records import AgentPlan
from swarm.stores.postgres import PostgresLedger, PostgresStore, agent_url
from swarm.testing import eventually, say

ROUNDS: Final = 5
TURNS: Final = 400
GROWTH_TURNS: Final = 20_000
STARTS: Final = 9
"""Processes whose first message is timed, of each kind."""
ELIZA: Final = "elizaOS 1.7.2 did this work in 2.2 CPU-ms in memory and 14.7 with Postgres (bare)"


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    try:
        memory = await _started(AgentRuntime(CHARACTER, plugins=[plugin(), Choosing().plugin()]))
        url = await _provisioned(server)
        stored = await _started(
            AgentRuntime(
                CHARACTER,
                PostgresStore(url, "bench", "bench", _id(), sole=True),  # as in an agent's own process
                [plugin(), Choosing().plugin()],
            )
        )
        watch = await asyncpg.connect(server.url)
        postmaster = server.pid or 0
        first = await _database(watch)
        for number in range(-1, ROUNDS):
            in_memory = await _cpu_ms(memory)
            meter = Meter(postgres=[postmaster, *children(postmaster)])
            meter.start()
            on_postgres = await _cpu_ms(stored)
            server_ms = meter.stop()["postgres"] / TURNS * 1000
            if number >= 0:
                rounds.add(
                    memory_ms=in_memory,
                    postgres_ms=on_postgres,
                    server_ms=server_ms,
                )
        await stored.stop()
        # A server's process counts its transactions in arrears, but none of those that have ended.
        last, turns = await _database(watch), (ROUNDS + 1) * TURNS
        rounds.add(transactions=(last[0] - first[0]) / turns, stored_kb=(last[1] - first[1]) / turns / 1024)
        for _ in range(STARTS):
            for where, given in (("memory", ()), ("postgres", (url, _id()))):
                for mode in ("eager", "lazy"):
                    found = await _first(mode, *given)
                    rounds.add(**{f"{mode}_{where}_{name}_ms": value for name, value in found.items()})
        grown = await growth_mb(memory, GROWTH_TURNS)
        await watch.close()
        await memory.stop()
    finally:
        await server.stop()
    return _rows(rounds, grown), _notes(rounds), rounds.figures


async def _first(*given: str) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.first", *given, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    found: dict[str, float] = msgspec.json.decode(said)
    return found


async def _started(runtime: AgentRuntime) -> AgentRuntime:
    await runtime.initialize()
    return runtime


def _id() -> str:
    return string_to_uuid(CHARACTER["name"])


async def _provisioned(server: EmbeddedPostgres) -> str:
    password, ledger = secrets.token_hex(16), PostgresLedger(server.url, "bench")
    await ledger.init()
    plan = AgentPlan(name="bench", id=_id(), character=dict(CHARACTER), version="1")
    await ledger.provision([plan], {"bench": password})
    await ledger.close()
    return agent_url(server.url, "bench", _id(), password)


async def _cpu_ms(runtime: AgentRuntime) -> float:
    """CPU milliseconds of this process for one turn, its evaluators included."""
    began = time.process_time()
    await _turns(runtime, TURNS)
    return (time.process_time() - began) / TURNS * 1000


async def _turns(runtime: AgentRuntime, turns: int) -> None:
    for number in range(turns):
        await say(runtime, f"please do number {number}", room=f"room-{number % 20}")
    await eventually(_quiet(runtime), seconds=60)


def _quiet(runtime: AgentRuntime) -> Callable[[], bool | Awaitable[bool]]:
    return lambda: not runtime._background


async def _database(watch: asyncpg.Connection[Any]) -> tuple[int, int]:
    """Transactions so far, as the server counts them, and bytes of the memories."""
    await watch.execute("select pg_stat_clear_snapshot()")
    commits = await watch.fetchval(
        "select xact_commit from pg_stat_database where datname = current_database()"
    )
    size = await watch.fetchval("select coalesce(sum(pg_column_size(m.*)), 0) from bench.memories m")
    return int(commits), int(size)


async def growth_mb(runtime: AgentRuntime, turns: int) -> float:
    """What so many turns leave in this process beyond what its store in memory keeps, in MB: none should."""
    runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
    gc.collect()
    await _turns(runtime, 1000)
    runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
    gc.collect()
    before = memory_mb(os.getpid())["private"]
    for _ in range(turns // 1000):
        await _turns(runtime, 1000)
        runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
    gc.collect()
    return memory_mb(os.getpid())["private"] - before


def _rows(rounds: Rounds, grown: float) -> list[Row]:
    def row(what: str, unit: str, name: str, limit: float | None) -> Row:
        return Row(goal="P5", what=what, unit=unit, ours=rounds.median(name), judged="ours", limit=limit)

    return [
        row("a turn in memory, CPU", "ms", "memory_ms", 0.5),
        row("a turn on Postgres, CPU of the agent", "ms", "postgres_ms", 2.0),
        row("a turn on Postgres, CPU of the server", "ms", "server_ms", None),
        row("transactions a turn", "", "transactions", 2.0),
        row("stored a turn", "KB", "stored_kb", 4.0),
        *(
            rounds.row(
                "G4",
                f"first message of an eager agent in {where} / those after",
                "ms",
                f"eager_{where}_first_ms",
                f"eager_{where}_then_ms",
                limit=1.0,
            )
            for where in ("memory", "postgres")
        ),
        Row(
            goal="P5",
            what=f"memory after {GROWTH_TURNS:,} more turns",
            unit="MB",
            ours=grown,
            judged="ours",
            limit=5.0,
        ),
    ]


def _notes(rounds: Rounds) -> list[str]:
    return [
        f"{ROUNDS} rounds of {TURNS} turns in 20 rooms; {ELIZA}.",
        "What evaluators found is written off the turn's path, for several turns in one transaction, and counted here.",
        "First messages of lazy agents, each in a new process: "
        f"{rounds.median('lazy_memory_first_ms'):.2f} ms in memory, then {rounds.median('lazy_memory_then_ms'):.2f}; "
        f"on Postgres {rounds.median('lazy_postgres_first_ms'):.2f}, "
        f"then {rounds.median('lazy_postgres_then_ms'):.2f}.",
    ]
