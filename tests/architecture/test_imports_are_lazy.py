"""What starts often must not import what is heavy: seen in sys.modules, not on a clock."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.architecture.tree import ROOT

HEAVY = (
    "pydantic",
    "asyncpg",
    "nats",
    "nkeys",
    "opentelemetry",
    "httpx",
    "yaml",
    "uvloop",
    "numpy",
    "tenacity",
)
ASYNC = "asyncio"


def heavy_after(code: str, *also: str) -> list[str]:
    """The heavy packages that a fresh interpreter has after `code`, and those of `also`."""
    show = f"import sys, json; print(json.dumps([m for m in {(*HEAVY, *also)} if m in sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: list[str] = json.loads(done.stdout)
    return found


def test_importing_swarm_imports_nothing_heavy() -> None:
    assert heavy_after("import swarm", ASYNC, "msgspec") == []


def test_writing_an_action_imports_nothing_heavy() -> None:
    assert heavy_after("from swarm import Action, Evaluator, Plugin, Provider, Service") == []


def test_importing_the_bus_does_not_choose_one() -> None:
    assert heavy_after("import bus.bus, bus.envelope, bus.subjects") == []


@pytest.mark.parametrize(
    "module", ["deploy.cli", "deploy.cli.frame", "deploy.cli.ps", "deploy.cli.ask", "deploy.cli.tell"]
)
def test_a_command_imports_nothing_heavy(module: str) -> None:
    assert heavy_after(f"import {module}", ASYNC) == []


def test_an_agent_of_a_swarm_imports_no_http() -> None:
    """What hundreds of processes would each pay for: the server is `swarm run`'s, a client comes with its first use."""
    http = ("uvicorn", "h11", "httpx", "deploy")
    assert not set(heavy_after("import swarm.agent.process", *http)) & set(http)


def test_help_imports_no_command() -> None:
    code = "from deploy.cli import main; main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and "usage: swarm" in done.stdout
    assert "deploy.cli.frame" in done.stderr and "deploy.cli.up" not in done.stderr


def test_it_would_notice() -> None:
    assert "asyncpg" in heavy_after("import asyncpg")
