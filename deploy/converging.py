"""Converging: make the registry and the processes of a swarm that runs agree with its file as it is now."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from deploy.processes import ProcessId
from deploy.provision import Plan, provision
from deploy.readiness import standing_of, wait_ready
from deploy.supervisor import is_locked, without_user
from swarm.errors import SwarmError, UsageError
from swarm.project import Project, RunState, Standing

START_SECONDS = 300.0
"""Beyond this a start is given up; the supervisor bounds its own steps more tightly."""


@dataclass(frozen=True, slots=True)
class Converged:
    """`changes` are what is different now, `missing` what is not ready, a sentence each."""

    changes: list[str]
    missing: list[str]
    standing: Standing


async def converge(project: Project, plan: Plan, restart: tuple[str, ...] = ()) -> Converged:
    """Provision `plan` and wait until it is so; whose character has changed is replaced, and so are those in
    `restart`, one instance at a time. Raises UsageError for what cannot change while it runs, SwarmError when
    nothing runs, and what the store and the bus raise."""
    from bus.credentials import read_secret
    from swarm.client import Swarm

    state = await _running_state(project)
    _refuse_what_needs_a_restart(plan, state)
    store_url = read_secret(project.home / "secrets" / "store_url").strip()
    changes = await provision(project, plan, store_url)
    async with Swarm.connect(project) as swarm:
        await swarm.converge()
        async with asyncio.TaskGroup() as group:
            for agent in restart:
                group.create_task(swarm.restart(agent))
        missing = await wait_ready(swarm, project, plan.agents)
        return Converged(changes, missing, standing_of(await swarm.ps(), plan.agents))


async def _running_state(project: Project) -> RunState:
    """The state of the supervisor that holds the lock, once it has started its servers."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while is_locked(project):
                state = project.state()
                if state is not None and state.ready and _alive(state):
                    return state
                await asyncio.sleep(0.05)
    raise SwarmError(
        f"The swarm that was starting in {project.folder} did not come up; run `swarm up` again, "
        f"or see {project.log_of('supervisor')}."
    )


def _alive(state: RunState) -> bool:
    return ProcessId(state.supervisor.pid, state.supervisor.started).alive()


def _refuse_what_needs_a_restart(plan: Plan, state: RunState) -> None:
    config = plan.config
    changed = (
        [f"swarm.name ({state.swarm} → {config.swarm.name})"] if config.swarm.name != state.swarm else []
    )
    if config.bus.url is not None and config.bus.url != state.bus_url:
        changed.append("bus.url")
    if config.store.url is not None and without_user(config.store.url) != state.store_url:
        changed.append("store.url")
    if changed:
        raise UsageError(f"{', '.join(changed)} cannot change while the swarm runs; run `swarm down` first.")
