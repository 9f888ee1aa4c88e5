"""The sections of swarm.toml: their keys, types and defaults, and what an agent gets from them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from swarm.bounds import MailBounds
from swarm.limits import AgentLimits
from swarm.records import (
    DEFAULT_LIMITS,
    AgentPermissions,
    Balance,
    HierarchyLimits,
    Orphans,
)
from swarm.retention import Retention
from swarm.scaling import MOST_REPLICAS, ScalePolicy

SLUG: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
_Days = Annotated[float, Field(ge=0, le=36_500)]
Slug = Annotated[str, Field(pattern=SLUG)]


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
