"""What swarm.toml sets for each agent, read where the agents are started: it may hold secrets, so it never
travels over the bus or into the registry."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from swarm.config import SwarmConfig, load_config
from swarm.errors import ConfigError

log = logging.getLogger(__name__)


class AgentSettings:
    """Reads the file again when it has changed; while it is not valid, what it said before stands."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen = -1
        self._config: SwarmConfig | None = None

    def of(self, agent: str) -> dict[str, Any]:
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._seen:
                self._config = load_config(self._file)
                self._seen = changed
        except (ConfigError, OSError) as error:
            log.warning("The agents' settings stay as they were: %s", error)
        return {} if self._config is None else self._config.settings_of(agent)
