"""deploy/systemd: the units run commands that exist, stop as the swarm drains, and are locked in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.cli import COMMANDS
from swarm.config import LimitsSection

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"), key=lambda file: file.name)


def values(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.M)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_drains_and_is_locked_in(unit: Path) -> None:
    assert values(unit, "KillSignal") == ["SIGTERM"]
    assert values(unit, "KillMode") == ["mixed"]  # the first process is told, and drains the others
    assert int(values(unit, "TimeoutStopSec")[0]) > LimitsSection().drain_seconds + 20
    assert (
        "78" in values(unit, "RestartPreventExitStatus")[0].split()
    )  # bad configuration is not mended by a start
    assert "75" not in values(unit, "RestartPreventExitStatus")[0].split()  # that one asks for it
    for key, value in {
        "User": "swarm",
        "NoNewPrivileges": "true",
        "ProtectSystem": "strict",
        "CapabilityBoundingSet": "",
        "UMask": "0077",
    }.items():
        assert values(unit, key) == [value], key


def test_what_they_start_exists() -> None:
    words = [line.split() for unit in UNITS for line in values(unit, "Exec(?:Start|Reload)") if line]
    commands = {line[1] for line in words if line[0].endswith("/swarm")}
    assert commands == {"up"} <= set(COMMANDS)
    modules = {line[2] for line in words if line[0].endswith("/python")}
    assert modules == {"deploy.node"}
