"""Agents: what is planned, what is known, who is whose child and may do what."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec

from swarm.bounds import MailBounds
from swarm.limits import AgentLimits
from swarm.scaling import ScalePolicy

Balance = Literal["room", "round-robin", "least-loaded"]
Desired = Literal["running", "stopped"]
Orphans = Literal["stop", "reparent", "keep"]
"""What becomes of an agent's children when it dies: they stop until it returns, go to its own parent, or stay."""


class AgentPermissions(msgspec.Struct, frozen=True):
    """What an agent may do to its children, and they to it (F10: the defaults of a child); and whether it may
    announce: speak to all, to a group, or to all that offer a role."""

    create_children: bool = False
    control_children: bool = False
    access_parent_memory: bool = True
    announce: bool = True


CHILD_PERMISSIONS: Final = AgentPermissions(announce=False)
"""What a child that is made at run time may do unless it was given more; the same defaults stand in SQL."""


class AgentPlan(msgspec.Struct, frozen=True, kw_only=True):
    """An agent as the swarm file wants it. `character` is the public document: it holds no secrets."""

    name: str
    id: str
    character: dict[str, Any]
    version: str
    source: str = ""
    parent: str | None = None
    permissions: AgentPermissions = AgentPermissions()
    roles: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """What a node must have to run it."""
    replicas: int = 1
    scale: ScalePolicy | None = None
    sleep_after: float | None = None
    """Seconds without work after which it stops until it has mail."""
    balance: Balance = "room"
    orphans: Orphans = "keep"
    limits: AgentLimits | None = None
    """None: as they are, at first those of everybody."""
    bounds: MailBounds = MailBounds()


class HierarchyLimits(msgspec.Struct, frozen=True):
    """`depth` counts generations below a root, `children` those of one parent."""

    depth: int = 8
    children: int = 100


DEFAULT_LIMITS: Final = HierarchyLimits()


class NewChild(msgspec.Struct, frozen=True, kw_only=True):
    """A child to be made at run time. `character` is its public document and `version` that of it; `source` is a
    folder in the project that has its plugins, "" for none. `permissions` may name some rights; the others are
    F10's. `secrets` are names: their values are handed down by the parent where they are, and travel nowhere."""

    name: str
    id: str
    character: dict[str, Any]
    version: str
    source: str = ""
    permissions: dict[str, bool] = {}
    orphans: Orphans = "keep"
    roles: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


class Birth(msgspec.Struct, frozen=True):
    """That an agent was spawned: by whom (what it inherits comes from there, whoever is its parent later), and
    the names of the secrets that it was to get."""

    of: str
    secrets: tuple[str, ...] = ()


class Family(msgspec.Struct, frozen=True):
    """An agent's place: ancestors from its parent up to the root, the subtree by generations without itself."""

    parent: str | None
    children: tuple[str, ...]
    ancestors: tuple[str, ...]
    subtree: tuple[str, ...]


class AgentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A known agent: registered, whether or not an instance of it lives."""

    id: str
    name: str
    version: str
    source: str = ""
    parent: str | None = None
    permissions: AgentPermissions = AgentPermissions()
    roles: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """What a node must have to run it."""
    replicas: int = 1
    """How many are wanted now: what an operator or the policy `scale` made of the file's number."""
    planned_replicas: int | None = None
    scale: ScalePolicy | None = None
    sleep_after: float | None = None
    asleep: bool = False
    """It stopped because it had nothing to do; its next message starts it."""
    balance: Balance = "room"
    desired: Desired = "running"
    status: Literal["active", "inactive"] = "inactive"
    orphans: Orphans = "keep"
    orphaned: bool = False
    """Stopped because its parent died; it starts again when the parent does."""
    died_at: int | None = None
    """Since when it is dead and its orphans are dealt with."""
    birth: Birth | None = None
    planned: bool = True
    """Whether it is in the swarm; not when it was taken out of the file, or removed."""
    created_at: int = 0
    updated_at: int = 0

    @property
    def wanted(self) -> int:
        """How many instances should run now: none of who is stopped or asleep."""
        return self.replicas if self.desired == "running" and not self.asleep else 0
