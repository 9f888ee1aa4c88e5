"""What `swarm run` is asked to do: one frozen value, made from the command line and the environment."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from swarm.errors import UsageError, near

DEFAULT_PORT: Final = 3000
DEFAULT_STORE: Final = "sqlite:./agent.db"
LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")
NOT_FOR_PLUGINS: Final = frozenset({"HTTP_TOKEN", "DATABASE_URL"})


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`source` is a character's. Without a `token` everybody who reaches the port may speak to the agent."""

    source: str
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    token: str = field(default="", repr=False)
    store_url: str = field(default=DEFAULT_STORE, repr=False)
    log_level: str = "INFO"
    drain_seconds: float = 25.0
    edge: bool = False
    """With the defaults of a small machine that is often offline (swarm/agent/edge.py)."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The settings' last layer: what a character leaves open, such as a model's key, is looked up there."""

    @property
    def folder(self) -> Path | None:
        """The agent's own folder, if that is what the source is."""
        path = Path(self.source)
        return path if path.is_dir() else None

    @property
    def on_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def run_settings(
    source: str,
    *,
    host: str,
    port: int | None,
    drain_seconds: float,
    edge: bool = False,
    environ: Mapping[str, str],
) -> RunSettings:
    """`port` None: that of PORT. An empty variable counts as none, as compose files pass on what they lack.
    Raises UsageError for a variable that is of no use."""
    level = (environ.get("LOG_LEVEL") or "INFO").upper()
    if level not in LEVELS:
        raise UsageError(f"LOG_LEVEL {level!r} is none of {', '.join(LEVELS)}{near(level, LEVELS)}")
    token = environ.get("HTTP_TOKEN") or ""
    if not token.isascii() or any(not " " < sign <= "~" for sign in token):
        raise UsageError("HTTP_TOKEN holds a space, a line end or a sign that no token has; set it anew.")
    return RunSettings(
        source,
        host=host,
        port=_port(environ) if port is None else port,
        token=token,
        store_url=environ.get("DATABASE_URL") or DEFAULT_STORE,
        log_level=level,
        drain_seconds=drain_seconds,
        edge=edge,
        environment={name: value for name, value in environ.items() if value and name not in NOT_FOR_PLUGINS},
    )


def _port(environ: Mapping[str, str]) -> int:
    given = environ.get("PORT") or str(DEFAULT_PORT)
    if not given.isascii() or not given.isdigit() or int(given) > 65_535:
        raise UsageError(f"PORT {given!r} is no port; give a number from 0 (any that is free) to 65535.")
    return int(given)
