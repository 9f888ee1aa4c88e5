"""What an agent process is told when it is started: one frozen value, nothing read from elsewhere.

The node packs it with msgspec and hands it to the forked child, whose entry point is
`swarm.agent.process:run`. It carries secrets, so its repr shows none.
"""

from __future__ import annotations

from typing import Any

import msgspec

from swarm.protocol import Ancestor
from swarm.telemetry import LogFormat


class AgentSpec(msgspec.Struct, frozen=True, kw_only=True):
    """`project` is the folder of swarm.toml and `source` is relative to it; paths are absolute otherwise.

    `bus_jwt` and `bus_seed` are this agent's own credentials and `store_url` its own database role.
    `drain_seconds` bounds a graceful stop; `rooms_at_once` and `capacity` bound the work in hand.
    """

    swarm: str
    agent: str
    agent_id: str
    instance: str
    source: str
    project: str
    bus_url: str
    bus_jwt: str
    bus_seed: str
    store_url: str
    node: str = ""
    version: str = ""
    log_level: str = "INFO"
    log_format: LogFormat = "text"
    rooms_at_once: int = 16
    capacity: int = 64
    drain_seconds: float = 25.0
    settings: dict[str, Any] = {}
    heritage: tuple[Ancestor, ...] = ()
    """From whom a spawned agent inherits; empty for an agent of the swarm file."""
    secrets: tuple[str, ...] = ()
    """The names of the secrets that it gets of theirs."""

    def __repr__(self) -> str:
        return f"AgentSpec({self.swarm}/{self.agent}/{self.instance})"
