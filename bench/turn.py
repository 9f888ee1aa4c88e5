"""P5: one whole turn with everything on: 3 providers, 5 actions, 2 evaluators, a model that only answers.

In memory and on Postgres, in this process alone (the server's CPU is told beside it); and the growth of memory
over many turns. elizaOS's own figures for this work, measured before the project, stand in `ELIZA`.
"""

from __future__ import annotations

import gc
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import asyncpg

from bench.report import Rounds, Row
from bench.usage import Meter, children, memory_mb
from deploy.embedded.postgres import EmbeddedPostgres
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Evaluator, Provider
from swarm.ids import string_to_uuid
from swarm.plugin import Plugin
from swarm.records import AgentPlan
from swarm.stores.postgres import PostgresLedger, PostgresStore, agent_url
from swarm.testing import ScriptedModel, eventually, say

ROUNDS: Final = 5
TURNS: Final = 400
GROWTH_TURNS: Final = 20_000
ELIZA: Final = "elizaOS 1.7.2 did this work in 2.2 CPU-ms in memory and 14.7 with Postgres (bare)"
_CHARACTER: Final = {"name": "Bench", "bio": "Is measured."}


class Choosing(ScriptedModel):
    """Always the same action and the same words: the cost of the turn, not of a model."""

    async def choose(self, request: Any) -> Any:
        self._choices = ["ACT_3"]
        self.asked.clear()
        return await super().choose(request)


def plugin() -> Plugin:
    async def provide() -> dict[str, Any]:
        return {"text": "It is a fine day.", "data": {"fine": True}}

    async def act(message: Any) -> str:
        """Does what it is asked."""
        return f"done: {message.text}"

    async def evaluate(response: Any) -> int:
        return len(response.text)

    return Plugin(
        "bench",
        providers=[Provider(f"PROVIDER_{n}", provide) for n in range(3)],
        actions=[Action(f"ACT_{n}", act) for n in range(5)],
        evaluators=[Evaluator(f"EVALUATOR_{n}", evaluate) for n in range(2)],
    )


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    server = EmbeddedPostgres(folder / "postgres")
    await server.start()
    try:
        memory = await _started(AgentRuntime(_CHARACTER, plugins=[plugin(), Choosing().plugin()]))
        url = await _provisioned(server)
        stored = await _started(
            AgentRuntime(
                _CHARACTER,
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
        grown = await _growth_mb(memory)
        await watch.close()
        await memory.stop()
    finally:
        await server.stop()
    return _rows(rounds, grown), _notes(rounds), rounds.figures


async def _started(runtime: AgentRuntime) -> AgentRuntime:
    await runtime.initialize()
    return runtime


def _id() -> str:
    return string_to_uuid(_CHARACTER["name"])


async def _provisioned(server: EmbeddedPostgres) -> str:
    password, ledger = secrets.token_hex(16), PostgresLedger(server.url, "bench")
    await ledger.init()
    plan = AgentPlan(name="bench", id=_id(), character=dict(_CHARACTER), version="1")
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


async def _growth_mb(runtime: AgentRuntime) -> float:
    """What `GROWTH_TURNS` turns leave in this process beyond what its store in memory keeps, in MB: none should."""
    runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
    gc.collect()
    await _turns(runtime, 1000)
    runtime.adapter._database.shelves.clear()  # type: ignore[attr-defined]
    gc.collect()
    before = memory_mb(os.getpid())["private"]
    for _ in range(GROWTH_TURNS // 1000):
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
        "What evaluators found is written off the turn's path, in one transaction more, and counted here.",
    ]
