"""P4: 200 agents on one machine: what each takes, how soon all are ready, and what they do when nothing happens.

The swarm is brought up twice with the command line: once in an empty folder, which also makes the database and
the registry, then again, which is the start that counts. The baseline is a fresh interpreter that imports what
an agent does.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

import asyncpg

from bench.project import RunningProject
from bench.report import Row, percentile
from bench.usage import children, cpu_seconds, memory_mb, started_at, uptime
from deploy.node_settings import PRELOAD

AGENTS: Final = 200
FRESH: Final = 3
IDLE_SECONDS: Final = 15.0
CLOSED_WITHIN: Final = 60.0
"""Connections that served the start are closed when they were idle for 30 s."""
PEAK_EVERY: Final = 0.25
COUNTERS: Final = (
    "select xact_commit + xact_rollback as transactions, sessions from pg_stat_database "
    "where datname = current_database()"
)
OPEN: Final = (
    "select count(*) filter (where application_name like 'swarm %' and usename <> current_user) as agents, "
    "count(*) as all from pg_stat_activity where backend_type = 'client backend'"
)


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    figures: dict[str, list[float]] = {}
    running = RunningProject(folder, [f"agent-{n:03}" for n in range(AGENTS)])
    fresh = [await asyncio.to_thread(_fresh) for _ in range(FRESH)]
    try:
        first = await running.up()
        await running.down()
        up = await running.up()
        figures |= await _each(running)
        idle = await _idle(running)
    finally:
        await running.down()
    fresh += [await asyncio.to_thread(_fresh) for _ in range(FRESH)]
    figures |= {
        "fresh_cpu_ms": [each["cpu_ms"] for each in fresh],
        "fresh_pss_mb": [each["pss_mb"] for each in fresh],
    }
    figures |= {"up_s": [up], "first_up_s": [first]} | {name: [value] for name, value in idle.items()}
    return _rows(figures), _notes(figures), figures


async def _each(running: RunningProject) -> dict[str, list[float]]:
    """Of every agent, soon after all were ready."""
    now = uptime()
    rows = await running.rows()
    pids = [row["pid"] for row in rows if row["status"] == "ready"]
    if len(pids) != AGENTS:
        raise RuntimeError(f"{len(pids)} of {AGENTS} agents are ready.")
    cpu = [cpu_seconds(pid) * 1000 for pid in pids]
    memory = [memory_mb(pid) for pid in pids]
    others = running.children()
    # Forks by the warm parent are of the node's; what the database and the coordinator do for a start counts here.
    others |= {f"zygote-{pid}": pid for pid in children(others["node"])}
    spent = {f"start_cpu_ms_{name.split('-')[0]}": [cpu_seconds(pid) * 1000] for name, pid in others.items()}
    ages = [now - started_at(pid) for pid in pids]
    return {
        "cpu_ms": cpu,
        "pss_mb": [each["pss"] for each in memory],
        "private_mb": [each["private"] for each in memory],
        "forked_to_ready_s": [max(ages)],
        "forking_s": [max(ages) - min(ages)],
    } | spent


async def _idle(running: RunningProject) -> dict[str, float]:
    """What happens in the database when nothing happens in the swarm. We ask on one connection, and count ourselves
    out: each of our statements is one transaction."""
    database = await asyncpg.connect(running.store_url)
    try:
        waited, open_at_once = await _until_closed(database)
        before, began = await _one(database, COUNTERS), time.monotonic()
        busy = Busy(running)
        await asyncio.sleep(IDLE_SECONDS)
        cpu = busy.spent()
        after, seconds = await _one(database, COUNTERS), time.monotonic() - began
        last = await _one(database, OPEN)
        quiet = [memory_mb(row["pid"])["pss"] for row in await running.rows()]
    finally:
        await database.close()
    return {
        "idle_transactions_per_s": (after["transactions"] - before["transactions"] - 1) / seconds,
        "idle_sessions_opened": float(after["sessions"] - before["sessions"]),
        "idle_pss_mb": median(quiet),
        "idle_agent_connections": float(last["agents"]),
        "idle_all_connections": float(last["all"] - 1),
        "connections_after_start": float(open_at_once),
        "closed_after_s": waited,
        "idle_cpu_ms_per_s_agent": cpu["agents"] / AGENTS / IDLE_SECONDS * 1000,
        "idle_cpu_ms_per_s_coordinator": cpu["coordinator"] / IDLE_SECONDS * 1000,
    }


class Busy:
    """The CPU that agents and coordinator use while nothing happens."""

    def __init__(self, running: RunningProject) -> None:
        pids = running.children()
        zygotes = children(pids["node"])
        self._pids = {
            "coordinator": [pids["coordinator"]],
            "agents": [a for z in zygotes for a in children(z)],
        }
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self._pids.items()}

    def spent(self) -> dict[str, float]:
        return {name: value - self._before[name] for name, value in self._read().items()}


async def _until_closed(database: asyncpg.Connection[Any]) -> tuple[float, int]:
    """Until no agent has a connection: the seconds, and how many there were at first."""
    began, first = time.monotonic(), None
    while True:
        count = (await _one(database, OPEN))["agents"]
        first = count if first is None else first
        waited = time.monotonic() - began
        if count == 0 or waited > CLOSED_WITHIN:
            return waited, first
        await asyncio.sleep(PEAK_EVERY)


async def _one(database: asyncpg.Connection[Any], statement: str) -> dict[str, int]:
    (row,) = await database.fetch(statement)
    return dict(row)


def _fresh() -> dict[str, float]:
    """A fresh interpreter with an agent's imports: its CPU and its memory."""
    code = (
        f"import {', '.join(name.partition(':')[0] for name in PRELOAD)}; print('here', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = {"cpu_ms": cpu_seconds(process.pid) * 1000, "pss_mb": memory_mb(process.pid)["pss"]}
    process.communicate("\n")
    return found


def _rows(figures: dict[str, list[float]]) -> list[Row]:
    middle: Callable[[str], float] = lambda name: median(figures[name])  # noqa: E731

    def row(
        what: str, unit: str, ours: float, limit: float | None = None, baseline: float | None = None
    ) -> Row:
        ratio = None if baseline is None else ours / baseline
        return Row(
            goal="P4",
            what=what,
            unit=unit,
            ours=ours,
            limit=limit,
            judged="ours",
            baseline=baseline,
            ratio=ratio,
        )

    fresh_mb, fresh_ms = middle("fresh_pss_mb"), middle("fresh_cpu_ms")
    agents = 0.0 if not middle("idle_sessions_opened") and not middle("idle_agent_connections") else None
    rows = [
        row(
            "own memory of an idle agent (PSS) / fresh interpreter", "MB", middle("idle_pss_mb"), 8, fresh_mb
        ),
        row("CPU to start an agent / fresh interpreter", "ms", middle("cpu_ms"), 20, fresh_ms),
        row(f"swarm up until {AGENTS} are ready", "s", middle("up_s"), 10),
        row(f"from the first fork until {AGENTS} are ready", "s", middle("forked_to_ready_s")),
        row("swarm up in an empty folder (makes the database)", "s", middle("first_up_s")),
        row("connections of idle agents", "", middle("idle_agent_connections"), 0),
        row("transactions/s, idle, all (the coordinator's lease)", "/s", middle("idle_transactions_per_s")),
    ]
    if agents is not None:
        # Without a connection at the end and without a new session in between, agents cannot have had any.
        rows.insert(6, row("transactions/s of idle agents", "/s", agents, 0))
    else:
        rows.insert(
            6, row("transactions/s of idle agents, at most", "/s", middle("idle_transactions_per_s"), 0)
        )
    return rows


def _notes(figures: dict[str, list[float]]) -> list[str]:
    middle: Callable[[str], float] = lambda name: median(figures[name])  # noqa: E731
    spent = ", ".join(
        f"{name.removeprefix('start_cpu_ms_')} {values[0] / AGENTS:.1f}"
        for name, values in figures.items()
        if name.startswith("start_cpu_ms_")
    )
    return [
        f"Right after the start: PSS {middle('pss_mb'):.1f} MB, at most {max(figures['pss_mb']):.1f}; CPU of an agent "
        f"at its start: p95 {percentile(figures['cpu_ms'], 0.95):.0f} ms.",
        f"CPU ms of the others for each agent started (all of their lives so far): {spent}.",
        f"Connections of agents right after the start: {middle('connections_after_start'):.0f}; none after "
        f"{middle('closed_after_s'):.0f} s. Idle: {middle('idle_all_connections'):.0f} in all (the coordinator's), "
        f"{middle('idle_sessions_opened'):.0f} sessions opened in {IDLE_SECONDS:.0f} s; CPU of an agent "
        f"{middle('idle_cpu_ms_per_s_agent'):.2f} ms/s, of the coordinator "
        f"{middle('idle_cpu_ms_per_s_coordinator'):.0f} ms/s.",
    ]
