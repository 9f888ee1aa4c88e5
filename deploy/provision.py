"""What the swarm file means for the registry: every agent loaded, checked and turned into a plan.

All characters are read before anything is started, and all that is wrong is said at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bus.errors import BusError
from swarm.config import AgentSection, SwarmConfig, load_config
from swarm.errors import ConfigError, SwarmError
from swarm.project import Project
from swarm.records import AgentPlan, AgentRecord
from swarm.scaling import ScalePolicy

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """A swarm file that is right, with the characters it names."""

    config: SwarmConfig
    agents: tuple[AgentPlan, ...]

    @property
    def instances(self) -> int:
        return sum(agent.replicas for agent in self.agents)


async def load_plan(project: Project) -> Plan:
    """Raises ConfigError or CharacterError with every error of the file, or of the characters."""
    config = load_config(project.file)
    async with asyncio.TaskGroup() as loads:
        tasks = [
            loads.create_task(_plan(project, config, name, agent)) for name, agent in config.agents.items()
        ]
    loaded = [task.result() for task in tasks]
    errors = [each for each in loaded if isinstance(each, str)]
    plans = tuple(each for each in loaded if isinstance(each, AgentPlan))
    errors += _same_ids(plans)
    if errors:
        raise ConfigError(errors[0] if len(errors) == 1 else "\n".join([f"{len(errors)} errors:", *errors]))
    return Plan(config, plans)


async def _plan(project: Project, config: SwarmConfig, name: str, agent: AgentSection) -> AgentPlan | str:
    """The plan of one agent, or the sentence that says what is wrong with it."""
    from swarm.character import load_character

    try:
        character = await load_character(source_of(project, agent.character))
    except (SwarmError, BusError) as error:
        return f"agents.{name}: {error}"
    return AgentPlan(
        name=name,
        id=character.id,
        character=character.public(),
        version=character.version,
        source=agent.character,
        parent=agent.parent,
        permissions=config.permissions_of(name),
        roles=agent.roles,
        labels=agent.labels,
        replicas=config.replicas_of(name),
        scale=None if agent.scale is None else agent.scale.policy(),
        sleep_after=agent.sleep_after,
        balance=agent.balance,
        limits=config.limits_of(name),
        orphans=agent.orphans,
        bounds=config.bounds_of(name),
    )


def source_of(project: Project, written: str) -> str | Path:
    """A source as `load_character` takes it: a path is relative to the project's folder."""
    scheme = written.partition(":")[0].lower()
    return written if scheme in ("http", "https", "env", "agent") else project.folder / written


def _same_ids(plans: Sequence[AgentPlan]) -> list[str]:
    first: dict[str, str] = {}
    errors = []
    for plan in plans:
        other = first.setdefault(plan.id, plan.name)
        if other != plan.name:
            errors.append(
                f"agents.{plan.name} and agents.{other} have one id, {plan.id}: an id is made from the character's "
                "name, so give one of the two characters another name, or use replicas for more of the same."
            )
    return errors


async def provision(project: Project, plan: Plan, store_url: str) -> list[str]:
    """Make the registry agree with the plan; returns what is different now, a sentence each."""
    from swarm.stores.postgres import PostgresLedger

    swarm = plan.config.swarm.name
    ledger = PostgresLedger(store_url, swarm)
    try:
        await ledger.init()
        before = {record.name: record for record in await ledger.agents()}
        passwords = {agent.name: project.agent_password(swarm, agent.name) for agent in plan.agents}
        limits = plan.config.limits.of_the_hierarchy()
        await ledger.provision(plan.agents, passwords, limits, plan.config.groups)
    finally:
        await ledger.close()
    return differences(before, plan.agents)


def differences(before: Mapping[str, AgentRecord], plans: Sequence[AgentPlan]) -> list[str]:
    """What a plan changes in a registry, for people."""
    said = []
    for plan in plans:
        record = before.get(plan.name)
        if record is None:
            said.append(f"{plan.name} is new")
            continue
        if record.version != plan.version:
            said.append(f"{plan.name} has another character ({record.version} → {plan.version})")
        for field in (
            "replicas",
            "scale",
            "sleep_after",
            "parent",
            "balance",
            "permissions",
            "roles",
            "labels",
            "orphans",
        ):
            old, new = (
                getattr(record, "planned_replicas" if field == "replicas" else field),
                getattr(plan, field),
            )
            if old != new:
                said.append(f"{plan.name}: {field} {_shown(old)} → {_shown(new)}")
    names = {plan.name for plan in plans}
    said += [
        f"{name} is no longer in the file and stops; its mail waits"
        for name, record in before.items()
        if name not in names and record.desired == "running" and record.birth is None
    ]
    return said


def _shown(value: object) -> str:
    match value:
        case None:
            return "none"
        case tuple():
            return ", ".join(map(str, value)) or "none"
        case str() | int() | float():
            return str(value)
        case ScalePolicy():
            return f"{value.min} to {value.max}"
    given = [name for name in getattr(value, "__struct_fields__", ()) if getattr(value, name)]
    return "+".join(given) or "none"
