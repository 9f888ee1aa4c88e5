"""The whole examination, from the ground up; what rests on something broken is not looked at."""

from __future__ import annotations

from deploy.doctor.finding import Finding, fault, ok
from deploy.doctor.machine import check_disk, check_folder, check_processes
from deploy.doctor.servers import check_bus, check_store
from deploy.doctor.swarm import check_swarm
from deploy.provision import load_plan
from swarm.client import Swarm
from swarm.errors import SwarmError
from swarm.project import Project


async def examine(project: Project) -> list[Finding]:
    """Takes a few seconds at most; changes nothing."""
    found = [await _check_file(project), check_disk(project), check_folder(project)]
    state = project.state()
    found += check_processes(state)
    if state is None:
        return found
    bus = await check_bus(project, state)
    found += [bus, *await check_store(project, state)]
    if bus.verdict == "ok":
        async with Swarm.connect(project) as swarm:
            found += await check_swarm(swarm)
    return found


async def _check_file(project: Project) -> Finding:
    try:
        plan = await load_plan(project)
    except (SwarmError, ExceptionGroup) as error:
        return fault("file", str(error), f"Correct {project.file.name}, then `swarm config validate`.")
    return ok("file", f"{project.file.name} names {len(plan.agents)} agents, {plan.instances} instances.")
