"""What the coordinator knows: whether one answers, who has joined, which agents are not as they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bus.errors import BusError
from deploy.doctor.agent import findings_of
from deploy.doctor.finding import Finding, fault, ok, warning
from deploy.readiness import FITS_NOWHERE
from swarm.client import Swarm
from swarm.errors import SwarmError

PROBES_AT_ONCE = 32


async def check_swarm(swarm: Swarm) -> list[Finding]:
    """The coordinator, then nodes and agents as it sees them, then each instance as it sees itself."""
    try:
        rows, stats = await swarm.ps(), await swarm.stats()
    except (BusError, SwarmError) as error:
        return [
            fault("coordinator", f"No coordinator answers: {error}", "`swarm logs coordinator` says why.")
        ]
    found = [ok("coordinator", f"A coordinator answers, in its term {stats['epoch']}.")]
    found += list(_nodes(rows)) + list(_agents(rows)) + list(_ledger(stats["ledger"]))
    names = sorted({str(row["name"]) for row in rows if row["status"] in ("ready", "draining")})
    slots = asyncio.Semaphore(PROBES_AT_ONCE)

    async def probe(name: str) -> list[Finding]:
        async with slots:
            return [each for each in findings_of(await swarm.diagnose(name)) if each.verdict != "ok"]

    async with asyncio.TaskGroup() as group:
        probes = [group.create_task(probe(name)) for name in names]
    sick = [finding for one in probes for finding in one.result()]
    if names and not sick:
        found.append(ok("instances", f"Every instance of {len(names)} agents says that it is well."))
    return found + sick


def _nodes(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    nodes = sorted({str(row["node"]) for row in rows if row["node"]})
    if nodes:
        yield ok("nodes", f"{', '.join(nodes)} run instances.")
    elif any(row["wanted"] for row in rows):
        yield fault(
            "nodes", "No node runs an instance.", "`swarm logs node` says why; or start the swarm again."
        )


def _agents(rows: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    for row in rows:
        name, reason = row["name"], row["reason"]
        if row["status"] == "quarantined":
            yield fault(
                "agents",
                f"{name} is quarantined: {reason or 'it crashed again and again'}",
                f"`swarm logs {name}` shows why; mend it, then `swarm resume {name}`.",
            )
        elif row["status"] == "absent" and FITS_NOWHERE in reason:
            yield fault(
                "agents",
                f"{reason}; {row['inbox']} messages wait for {name}.",
                "Let a machine join that fits (`swarm node invite`), or change its labels or the node's capacity in "
                "swarm.toml and run `swarm up`.",
            )
        elif row["status"] == "absent" and reason not in ("stopped", "scaled to 0"):
            yield fault(
                "agents",
                f"{name} is absent{f' ({reason})' if reason else ''}; {row['inbox']} messages wait for it.",
                f"`swarm logs {name}` shows why; `swarm restart {name}` tries at once.",
            )
    if rows and not any(r["status"] == "quarantined" for r in rows):
        ready = sum(row["status"] == "ready" for row in rows)
        yield ok("agents", f"{ready} instances are ready.")


def _ledger(counts: Mapping[str, int]) -> Iterator[Finding]:
    dead = counts.get("deliveries.dead", 0)
    if dead:
        yield warning(
            "dead letters",
            f"{dead} messages were given up.",
            "`swarm dead ls` shows them with their reasons.",
        )
