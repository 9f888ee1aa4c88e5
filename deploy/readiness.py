"""Whether a swarm is ready: every planned instance says so; and in words, what is not and why."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from bus.errors import BusError
from deploy.last_line import last_line
from swarm.client import Swarm
from swarm.errors import SwarmError
from swarm.project import Project, Standing
from swarm.records import AgentPlan

FIRST_SECONDS: Final = 60.0
SECONDS_EACH: Final = 0.2
FITS_NOWHERE: Final = "fits on no node"
"""As the coordinator says of a slot that it cannot place."""


async def wait_ready(
    swarm: Swarm, project: Project, plans: Sequence[AgentPlan], seconds: float | None = None
) -> list[str]:
    """Wait until each agent has its replicas ready, with the character that is planned.

    Returns what is missing, a sentence each; empty is good. Ends before its `seconds` when what is missing
    will not come by waiting. Who is stopped or asleep is not missing.
    """
    replicas = {plan.name: plan.replicas for plan in plans}
    versions = {plan.name: plan.version for plan in plans}
    bound = FIRST_SECONDS + SECONDS_EACH * sum(replicas.values()) if seconds is None else seconds
    rows: list[dict[str, Any]] = []
    missing = dict(replicas)
    trouble = "it was not asked yet"
    try:
        async with asyncio.timeout(bound):
            while True:
                try:
                    rows = await swarm.ps()
                    replicas |= {row["name"]: row["wanted"] for row in rows if row["name"] in replicas}
                    trouble = ""
                except (BusError, SwarmError) as error:
                    trouble = str(error)
                missing = _missing(rows, replicas, versions)
                if not trouble and (not missing or _hopeless(rows, missing)):
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    if trouble:
        return [f"the coordinator cannot be asked: {trouble}; {_log_says(project, 'coordinator')}"]
    return [_sentence(project, name, count, replicas[name], rows) for name, count in missing.items()]


def standing_of(rows: Sequence[Mapping[str, Any]], plans: Sequence[AgentPlan]) -> Standing:
    """What stands beside the file, from the rows of `swarm ps`."""
    planned = {plan.name: plan.replicas for plan in plans}
    known = [row for row in rows if row["name"] in planned]
    return Standing(
        tuple(row["name"] for row in known if row["reason"] == "stopped" and not row["instance"]),
        tuple(row["name"] for row in known if row["status"] == "asleep"),
        {row["name"]: row["replicas"] for row in known if row["replicas"] != planned[row["name"]]},
    )


def _missing(
    rows: list[dict[str, Any]], replicas: Mapping[str, int], versions: Mapping[str, str]
) -> dict[str, int]:
    """How many instances of each agent are not ready."""
    ready = dict.fromkeys(replicas, 0)
    for row in rows:
        name = row["name"]
        if name in ready and row["status"] == "ready" and row["version"] == versions[name]:
            ready[name] += 1
    return {name: wanted - ready[name] for name, wanted in replicas.items() if ready[name] < wanted}


def _hopeless(rows: list[dict[str, Any]], missing: Mapping[str, int]) -> bool:
    """Whether everything that is not ready is in a state that only a person can end."""
    for name, count in missing.items():
        lost = sum(
            row["name"] == name and (row["status"] == "quarantined" or FITS_NOWHERE in row["reason"])
            for row in rows
        )
        if lost < count:
            return False
    return True


def _sentence(project: Project, name: str, missing: int, wanted: int, rows: list[dict[str, Any]]) -> str:
    own = [row for row in rows if row["name"] == name and row["status"] != "ready"]
    states = ", ".join(sorted({str(row["status"]) for row in own})) or "absent"
    reason = next((str(row["reason"]) for row in own if row.get("reason")), "")
    how_many = "is not ready" if wanted == 1 else f"has {wanted - missing} of {wanted} ready"
    if not reason:
        logs = sorted(project.logs.glob(f"{name}-[0-9]*.log"), key=lambda log: log.stat().st_mtime)
        reason = (last_line(logs[-1]) if logs else "") or "its log is empty"
    return f"{name} {how_many} ({states}): {reason}; see `swarm logs {name}`"


def _log_says(project: Project, name: str) -> str:
    said = last_line(project.log_of(name))
    return f"its log ends with: {said}" if said else "its log is empty"
