"""What a coordinator is told at its start: one frozen value from one JSON file, nothing read elsewhere."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from coordinator.presence import HELLO_SECONDS
from swarm.errors import ConfigError
from swarm.protocol import BEAT_SECONDS
from swarm.retention import Retention
from swarm.telemetry import LogFormat

SETTINGS_VARIABLE: Final = "SWARM_COORDINATOR_SETTINGS"
"""The environment variable that names the settings file when the command line does not."""

Seconds = Annotated[float, Meta(gt=0, le=3600)]


class CoordinatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`credentials` is the text of a NATS ``.creds`` file and `credentials_file` the path of one; with
    neither, the server must know the coordinator by its URL. All durations are seconds.

    A successor takes over at most `lease_seconds + standby_seconds` after its predecessor's last renewal,
    and routes after `grace_seconds` more at the latest: together these must stay under 5 s.
    """

    swarm: Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9_-]+\Z")]
    bus_url: str = ""
    store_url: str = ""
    credentials: str = ""
    credentials_file: str = ""
    holder: str = ""
    log_level: str = "INFO"
    log_format: LogFormat = "text"
    pages: str = ""
    """HOST:PORT of `/health`, `/ready` and `/metrics`; empty: none."""

    telemetry: dict[str, str] = {}
    """Where metrics and spans are sent (swarm/metrics/pushing.py, swarm/tracing/exporting.py), over what the
    environment says."""

    lease_seconds: Seconds = 3.0
    renew_seconds: Seconds = 1.0
    standby_seconds: Seconds = 0.4
    grace_seconds: Seconds = 1.2
    beat_seconds: Seconds = BEAT_SECONDS
    hello_seconds: Seconds = HELLO_SECONDS
    """What a node has started and that says no hello for so long is ended and started anew."""
    sweep_seconds: Seconds = 5.0
    expiry_seconds: Seconds = 2.0
    ageing_seconds: Seconds = 15.0
    ask_seconds: Seconds = 60.0
    """How long an ask without a deadline is remembered."""
    drain_seconds: Seconds = 10.0
    dependency_seconds: Seconds = 30.0
    """How long the first connection to bus and store is tried before the process ends with 69."""
    clean_seconds: Seconds = 600.0
    """Between two rounds of the cleaner."""
    retention: Retention = Retention()
    batch: Annotated[int, Meta(ge=1, le=10_000)] = 256
    """The most deliveries claimed for one agent in one statement."""

    def __post_init__(self) -> None:
        if self.log_level.upper() not in logging.getLevelNamesMapping():
            raise ValueError(f"{self.log_level!r} is no log level; INFO is one")
        if self.renew_seconds >= self.lease_seconds:
            raise ValueError("renew_seconds must be shorter than lease_seconds")
        if wrong := self.retention.why_not():
            raise ValueError(" ".join(wrong))

    def __repr__(self) -> str:
        return f"CoordinatorSettings({self.swarm})"  # URLs and credentials are secrets


def load_settings(path: str) -> CoordinatorSettings:
    """The settings in the JSON file at `path`. Raises ConfigError (exit code 78) with a sentence."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The coordinator's settings at {path} cannot be read ({error.strerror}); "
            f"give a JSON file as argument or in {SETTINGS_VARIABLE}."
        ) from error
    try:
        return msgspec.json.decode(data, type=CoordinatorSettings)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"The coordinator's settings at {path} are not valid: {error}.") from error
