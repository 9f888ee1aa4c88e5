"""What a node is told when it starts: one frozen value from one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from swarm.errors import ConfigError
from swarm.telemetry import LogFormat

PRELOAD: Final = (
    "swarm.agent.process",
    "swarm.agent.rehearsal:rehearse",
    "swarm.stores.postgres",
    "swarm.character.loading",
    "nkeys",
    "uvloop",
    "concurrent.futures.thread",
    "encodings.utf_8_sig",
    "stringprep",
    "getpass",
    "termios",
)
"""What an agent imports by its first turn. Imported in the warm parent it costs the machine once, and each agent
nothing; whatever an agent imports by itself is its own memory and its own time."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`file` is the project's swarm.toml. `bus_url` is one URL or several with commas between. `store_url` is where the
    agents' database roles log in, without user. `capacity`, `rooms_at_once` are an instance's; `most_instances` and
    `labels` this machine's. Times in seconds."""

    swarm: str
    file: str
    node: str = "node"
    bus_url: str
    store_url: str
    credentials_file: str
    log_level: str = "INFO"
    log_format: LogFormat = "text"
    rooms_at_once: int = 16
    capacity: int = 64
    drain_seconds: float = 25.0
    most_instances: int = 0
    """How many instances may be placed here; 0: no bound."""
    labels: tuple[str, ...] = ()
    pages: str = ""
    """HOST:PORT of `/health`, `/ready` and `/metrics`; empty: none."""
    entry: str = "swarm.agent.process:run"
    preload: tuple[str, ...] = PRELOAD
    joined: bool = False
    """This machine came by an invitation: it holds the agents' keys only, and its own checkout of the project."""


def read_settings(path: str | Path) -> NodeSettings:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=NodeSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"The node's settings at {path} cannot be read: {error}.") from error
