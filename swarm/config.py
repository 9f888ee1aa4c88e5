"""swarm.toml: what a swarm consists of, as one frozen value that is validated once.

Reading it finds *all* errors before it says so, each as a sentence with the place and, for a word that is
not known, the words that are near. Characters are not looked at here: `deploy/provision.py` loads them.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bus.permissions import role_of_name
from swarm.bounds import MailBounds
from swarm.errors import ConfigError, near
from swarm.limits import AgentLimits
from swarm.records import (
    DEFAULT_LIMITS,
    RESERVED_NAMES,
    AgentPermissions,
    Balance,
    HierarchyLimits,
    Orphans,
)
from swarm.retention import Retention
from swarm.scaling import MOST_REPLICAS, ScalePolicy

_SLUG: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_PERMISSIONS: Final = AgentPermissions.__struct_fields__
_Days = Annotated[float, Field(ge=0, le=36_500)]
Slug = Annotated[str, Field(pattern=_SLUG)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class SwarmSection(_Section):
    """`coordinators` are processes of which one is active. `on_failure` says what `swarm up` does when some
    agents do not become ready: keep the others, or take all down again."""

    name: Slug
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    coordinators: Annotated[int, Field(ge=1, le=5)] = 1
    on_failure: Literal["continue", "rollback"] = "continue"


class BusSection(_Section):
    """`url` of a NATS server that trusts this project's authority, or of all servers of a cluster with commas between;
    absent: an embedded one."""

    url: Annotated[str, Field(pattern=r"^((nats|tls)://[^,]+)(,(nats|tls)://[^,]+)*$")] | None = None


class StoreSection(_Section):
    """`url` of a Postgres database whose user may create roles; absent: an embedded one."""

    url: Annotated[str, Field(pattern=r"^postgres(ql)?://")] | None = Field(default=None, repr=False)


class AgentLimitsSection(_Section):
    """What one agent may send, so that loops and storms end (0 is no bound; docs/guide/limits.md explains them),
    and the bounds of its mail: what may wait for it (messages, megabytes of content, days of the oldest), how often
    it may announce within a minute, and how many kilobytes at once. Absent: as in [limits]."""

    conversation_messages: Annotated[int | None, Field(ge=0, le=1_000_000_000)] = None
    pair_per_minute: Annotated[int | None, Field(ge=0, le=1_000_000_000)] = None
    tells_per_minute: Annotated[int | None, Field(ge=0, le=1_000_000_000)] = None
    inbox_messages: Annotated[int | None, Field(ge=1, le=10_000_000)] = None
    inbox_mb: Annotated[float | None, Field(gt=0, le=1_000_000)] = None
    inbox_days: Annotated[float | None, Field(gt=0, le=3650)] = None
    announce_per_minute: Annotated[int | None, Field(ge=0, le=100_000)] = None
    announce_kb: Annotated[float | None, Field(ge=0, le=1024)] = None


class LimitsSection(AgentLimitsSection):
    """How far the hierarchy grows: generations below a root, children of one parent. What one instance takes on:
    turns at once (a room has one), deliveries in hand, and the seconds it has to drain before it is made to hurry.
    And what each agent may send and keep, unless it has limits of its own."""

    depth: Annotated[int, Field(ge=0, le=100)] = DEFAULT_LIMITS.depth
    children: Annotated[int, Field(ge=0, le=100_000)] = DEFAULT_LIMITS.children
    rooms_at_once: Annotated[int, Field(ge=1, le=10_000)] = 16
    capacity: Annotated[int, Field(ge=1, le=10_000)] = 64
    drain_seconds: Annotated[float, Field(gt=0, le=3600)] = 25.0

    def of_instances(self) -> dict[str, Any]:
        """What a node gives its instances."""
        return self.model_dump(include={"rooms_at_once", "capacity", "drain_seconds"})

    def of_the_hierarchy(self) -> HierarchyLimits:
        return HierarchyLimits(self.depth, self.children)


class RetentionSection(_Section):
    """How many days what is over stays in the ledger; 0 keeps it for ever. What is absent: `swarm.retention`."""

    messages: _Days = Retention().messages
    announcements: _Days = Retention().announcements
    notices: _Days = Retention().notices
    dead: _Days = Retention().dead
    tasks: _Days = Retention().tasks
    memories: _Days = Retention().memories
    memories_of: dict[str, _Days] = {}

    def ages(self) -> Retention:
        return Retention(**self.model_dump())


class PermissionsSection(_Section):
    """Absent rights: a child may not have children, controls nobody, reads its parent's memory and announces,
    as far as its parent does."""

    create_children: bool = False
    control_children: bool = False
    access_parent_memory: bool | None = None
    announce: bool | None = None


class NodeSection(_Section):
    """The machine of `swarm up`; others say theirs when they are invited. `labels` are what it is, for agents that want
    it; `capacity` is how many instances may be placed on it, 0: no bound. `limits.capacity` is another: messages."""

    labels: Annotated[tuple[Slug, ...], Field(max_length=64)] = ()
    capacity: Annotated[int, Field(ge=0, le=10_000)] = 0

    def of_node(self) -> dict[str, Any]:
        """What a node is told."""
        return {"labels": self.labels, "most_instances": self.capacity}


class ScaleSection(_Section):
    """Between how many replicas the number follows the work: one more when a message has waited for `queue_seconds`
    or each has more than `in_flight` in hand, one less after `idle_seconds` with little to do."""

    min: Annotated[int, Field(ge=1, le=MOST_REPLICAS)] = 1
    max: Annotated[int, Field(ge=1, le=MOST_REPLICAS)]
    queue_seconds: Annotated[float, Field(gt=0, le=86_400)] = 5.0
    in_flight: Annotated[int, Field(ge=1, le=10_000)] = 8
    idle_seconds: Annotated[float, Field(gt=0, le=86_400)] = 30.0

    def policy(self) -> ScalePolicy:
        return ScalePolicy(**self.model_dump())


class AgentSection(_Section):
    """One agent. `character` is a gallery folder, a file or a URL, relative to the folder of swarm.toml. `orphans`:
    when it dies, its children stop until it is back, go to its own parent, or stay. `scale` lets the number of replicas
    follow the work; `sleep_after`: seconds without work after which it stops until it has mail. It runs on
    nodes that have all its `labels`."""

    character: Annotated[str, Field(min_length=1, max_length=4096)]
    parent: Slug | None = None
    permissions: PermissionsSection = PermissionsSection()
    roles: Annotated[tuple[Slug, ...], Field(max_length=64)] = ()
    labels: Annotated[tuple[Slug, ...], Field(max_length=64)] = ()
    replicas: Annotated[int, Field(ge=1, le=MOST_REPLICAS)] = 1
    scale: ScaleSection | None = None
    sleep_after: Annotated[float | None, Field(gt=0, le=31_536_000)] = None
    balance: Balance = "room"
    limits: AgentLimitsSection = AgentLimitsSection()
    orphans: Orphans = "keep"
    settings: Annotated[dict[str, Any], Field(repr=False)] = {}


class SwarmConfig(_Section):
    """The whole file. Agents by name, in the order of the file. `settings` are every agent's, its own over them;
    a character's own settings come first (swarm/settings.py)."""

    swarm: SwarmSection
    bus: BusSection = BusSection()
    store: StoreSection = StoreSection()
    node: NodeSection = NodeSection()
    limits: LimitsSection = LimitsSection()
    retention: RetentionSection = RetentionSection()
    settings: Annotated[dict[str, Any], Field(repr=False)] = {}
    agents: dict[str, AgentSection] = {}
    groups: dict[str, Annotated[tuple[Slug, ...], Field(max_length=10_000)]] = {}

    def settings_of(self, name: str) -> dict[str, Any]:
        """What the file sets for `name`; nothing for an agent that it does not have."""
        agent = self.agents.get(name)
        return {**self.settings, **(agent.settings if agent else {})}

    def replicas_of(self, name: str) -> int:
        """The file's own number: with a policy and no number, where the policy begins."""
        agent = self.agents[name]
        begins = agent.scale is not None and "replicas" not in agent.model_fields_set
        return agent.scale.min if agent.scale is not None and begins else agent.replicas

    def limits_of(self, name: str) -> AgentLimits:
        """What `name` may send: its own limits, those of all, those of the runtime."""
        given = {
            key: value
            for section in (self.limits, self.agents[name].limits)
            for key in AgentLimits.__struct_fields__
            if (value := getattr(section, key)) is not None
        }
        return AgentLimits(**given)

    def permissions_of(self, name: str) -> AgentPermissions:
        """What `name` may do. A child whose parent may not read *its* parent's memory, or announce, may not
        either, unless the file says otherwise (which `load_config` refuses)."""
        agent = self.agents[name]
        own = agent.permissions
        given = AgentPermissions() if agent.parent is None else self.permissions_of(agent.parent)
        return AgentPermissions(
            own.create_children,
            own.control_children,
            given.access_parent_memory if own.access_parent_memory is None else own.access_parent_memory,
            given.announce if own.announce is None else own.announce,
        )

    def bounds_of(self, name: str) -> MailBounds:
        """The bounds of an agent's mail: its own, those of all, those of the runtime."""
        given = {
            key: value
            for section in (self.limits, self.agents[name].limits)
            for key in AgentLimitsSection.model_fields
            if (value := getattr(section, key)) is not None
        }
        sizes = {
            "inbox_messages": given.get("inbox_messages"),
            "inbox_bytes": _whole(given.get("inbox_mb"), 2**20),
            "inbox_ms": _whole(given.get("inbox_days"), 86_400_000),
            "announce_per_minute": given.get("announce_per_minute"),
            "announce_bytes": _whole(given.get("announce_kb"), 2**10, least=0),
        }
        return MailBounds(**{key: value for key, value in sizes.items() if value is not None})


def _whole(number: float | None, unit: int, least: int = 1) -> int | None:
    return None if number is None else max(least, int(number * unit))


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> SwarmConfig:
    """Read and check a swarm file. Raises ConfigError naming the file and every error in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}; `swarm init` makes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    return parse_config(text, path.name, environ)


def parse_config(
    text: str, name: str = "swarm.toml", environ: Mapping[str, str] | None = None
) -> SwarmConfig:
    """As `load_config`, from text; `environ` fills in ``${VAR}`` and ``${VAR:-default}``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from error
    errors: list[str] = []
    filled = _fill(raw, os.environ if environ is None else environ, "", errors)
    config: SwarmConfig | None = None
    try:
        config = SwarmConfig.model_validate(filled)
    except ValidationError as error:
        errors += [_sentence(found["loc"], found["type"], found["msg"]) for found in error.errors()]
    if config is not None:
        errors += _disagreements(config)
    elif isinstance(filled.get("agents"), dict):
        errors += _bad_names(filled["agents"])
    if config is None or errors:
        raise ConfigError(_all(name, errors))
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema of swarm.toml, for editors."""
    schema = SwarmConfig.model_json_schema()
    for section in [schema, *schema["$defs"].values()]:
        if "description" in section:
            section["description"] = " ".join(section["description"].split())
    for names in ("agents", "groups"):
        schema["properties"][names]["propertyNames"] = {"pattern": _SLUG}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "swarm.toml"}


def _all(name: str, errors: list[str]) -> str:
    if len(errors) == 1:
        return f"{name}: {errors[0]}"
    return f"{name} has {len(errors)} errors:\n" + "\n".join(f"  {error}" for error in errors)


def _fill(value: Any, environ: Mapping[str, str], where: str, errors: list[str]) -> Any:
    match value:
        case dict():
            return {key: _fill(each, environ, f"{where}.{key}", errors) for key, each in value.items()}
        case list():
            return [_fill(each, environ, f"{where}[{i}]", errors) for i, each in enumerate(value)]
        case str():

            def known(found: re.Match[str]) -> str:
                variable, default = found.groups()
                if variable in environ and (environ[variable] or default is None):
                    return environ[variable]
                if default is None:
                    errors.append(
                        f"{where[1:]} needs the environment variable {variable}; set it, or write "
                        f"${{{variable}:-default}}."
                    )
                    return found.group()
                return str(default)

            return _VARIABLE.sub(known, value)
    return value


def _sentence(where: tuple[int | str, ...], kind: str, text: str) -> str:
    place = ".".join(str(part) for part in where)
    match kind:
        case "extra_forbidden":
            return f"{place} is not a setting{near(str(where[-1]), _settings_at(where[:-1]))}"
        case "missing":
            return f"{place} is missing."
        case "string_pattern_mismatch" if where[-1] == "url":
            if where[0] == "bus":
                return f"{place} must be a URL such as nats://host."
            return (
                f"{place} must be a URL such as postgresql://host: a swarm's ledger is Postgres. SQLite is for one "
                "agent alone: swarm run."
            )
        case "string_pattern_mismatch":
            return f"{place} must be lower-case letters, digits, - and _, and begin with a letter or digit."
    return f"{place}: {text[:1].lower()}{text[1:]}."


def _settings_at(where: tuple[int | str, ...]) -> list[str]:
    model: Any = SwarmConfig
    for part in where:
        if model is dict:
            model = AgentSection
            continue
        annotation = model.model_fields[str(part)].annotation
        optional = next((one for one in get_args(annotation) if hasattr(one, "model_fields")), annotation)
        model = dict if getattr(annotation, "__origin__", None) is dict else optional
    return list(model.model_fields)


def _bad_names(agents: Mapping[str, Any]) -> Iterator[str]:
    for name in agents:
        if not re.fullmatch(_SLUG, name):
            yield (
                f"agents.{name}: a name must be lower-case letters, digits, - and _, at most 63, "
                "and begin with a letter or digit."
            )
        elif name in RESERVED_NAMES or role_of_name(name) != "agent":
            yield f"agents.{name}: this name is reserved; choose another."


def _disagreements(config: SwarmConfig) -> Iterator[str]:
    """What is wrong between the agents of a file in which each alone is right."""
    yield from _bad_names(config.agents)
    yield from config.retention.ages().why_not()
    for name in config.retention.memories_of:
        if name not in config.agents:
            yield f"retention.memories_of.{name}: there is no agent {name!r}{near(name, config.agents)}"
    for name, agent in config.agents.items():
        if (scale := agent.scale) is not None:
            if scale.min > scale.max:
                yield f"agents.{name}.scale: min is {scale.min} and max {scale.max}; min must not be above max."
            elif not scale.min <= config.replicas_of(name) <= scale.max:
                yield (
                    f"agents.{name}.replicas is {agent.replicas}, outside of what scale allows "
                    f"({scale.min} to {scale.max}); leave it out to begin with {scale.min}."
                )
        if agent.parent is None:
            continue
        if agent.parent not in config.agents:
            yield f"agents.{name}.parent: there is no agent {agent.parent!r}{near(agent.parent, config.agents)}"
            continue
        chain = _ancestors(config, name)
        if name in chain:
            yield f"agents.{name}.parent: {' → '.join([name, *chain])} is a circle; one of them must be a root."
            continue
        if len(chain) > config.limits.depth:
            yield f"agents.{name} is {len(chain)} generations below its root; limits.depth is {config.limits.depth}."
        yield from _excess(config, name, agent.parent)
    yield from _bad_groups(config)
    for parent, children in Counter(agent.parent for agent in config.agents.values()).items():
        if parent is not None and children > config.limits.children:
            yield f"agents.{parent} has {children} children; limits.children is {config.limits.children}."


def _bad_groups(config: SwarmConfig) -> Iterator[str]:
    for group, members in config.groups.items():
        if not re.fullmatch(_SLUG, group):
            yield (
                f"groups.{group}: a name must be lower-case letters, digits, - and _, at most 63, "
                "and begin with a letter or digit."
            )
        for member in members:
            if member not in config.agents:
                yield f"groups.{group}: there is no agent {member!r}{near(member, config.agents)}"


def _ancestors(config: SwarmConfig, name: str) -> list[str]:
    """Parent, grandparent, …; ends at a root, at an unknown parent, or when a name comes again."""
    chain: list[str] = []
    above = config.agents[name].parent
    while above is not None and above in config.agents and above not in chain:
        chain.append(above)
        above = config.agents[above].parent
    return chain


def _excess(config: SwarmConfig, name: str, parent: str) -> Iterator[str]:
    own, given = config.agents[name].permissions, config.agents[parent].permissions
    for right in _PERMISSIONS:
        if right in ("access_parent_memory", "announce"):
            above = (config.agents[each].permissions for each in _ancestors(config, name))
            excess = getattr(own, right) is True and any(getattr(each, right) is False for each in above)
        else:
            excess = getattr(own, right) and not getattr(given, right)
        if excess:
            yield f"agents.{name}.permissions.{right}: its parent {parent} does not have this right to give."
