"""What swarm.toml sets for each agent, read where the agents are started: it may hold secrets, so it never
travels over the bus or into the registry."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any

from swarm.character.secrets import find_secrets
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
        config = self._read()
        return {} if config is None else config.settings_of(agent)

    def handed_down(self, agent: str, secrets: Collection[str]) -> dict[str, Any]:
        """What a spawned agent has of `agent`, the one above it in the file: its settings (F9), but of those that
        are secrets only the named ones. What the file sets for all is everybody's."""
        config = self._read()
        if config is None:
            return {}
        section = config.agents.get(agent)
        own = section.settings if section is not None else {}
        down = {key: value for key, value in own.items() if key in secrets or not _holds_secrets(key, value)}
        return {**config.settings, **down}

    def _read(self) -> SwarmConfig | None:
        try:
            changed = self._file.stat().st_mtime_ns
            if changed != self._seen:
                self._config = load_config(self._file)
                self._seen = changed
        except (ConfigError, OSError) as error:
            log.warning("The agents' settings stay as they were: %s", error)
        return self._config


def _holds_secrets(key: str, value: Any) -> bool:
    return key == "secrets" or any(find_secrets({"settings": {key: value}}))
