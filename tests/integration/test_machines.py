"""Several machines, as several nodes with folders of their own: joining, placing, a power cut, and the return."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from swarm.client import Swarm
from swarm.testing import eventually
from tests.joined import SWARM, Machine, joined
from tests.running import running_swarm

pytestmark = pytest.mark.timeout(180)

TOML = """
[swarm]
name = "machines"
[agents.ada]
character = "agents/ada.json"
[agents.bob]
character = "agents/bob.json"
replicas = 2
[agents.gpu]
character = "agents/gpu.json"
labels = ["gpu"]
"""
FILES = {
    f"agents/{name}.json": f'{{"name": "{name.title()}", "bio": "Talks."}}' for name in ("ada", "bob", "gpu")
}


async def where(swarm: Swarm) -> dict[str, list[str]]:
    """The nodes of each agent's ready instances."""
    found: dict[str, list[str]] = {}
    for row in await swarm.ps():
        if row["status"] == "ready":
            found.setdefault(row["name"], []).append(row["node"])
    return {name: sorted(nodes) for name, nodes in found.items()}


async def placed(swarm: Swarm, wanted: dict[str, list[str]], machine: Machine, seconds: float = 30.0) -> None:
    seen: Any = None

    async def look() -> bool:
        nonlocal seen
        seen = await where(swarm)
        return bool(seen == wanted)

    try:
        await eventually(look, seconds=seconds)
    except AssertionError:
        raise AssertionError(f"wanted {wanted}, seen {seen}\n{await swarm.ps()}\n{machine.log}") from None


async def test_a_second_machine_joins_in_one_step_and_its_agents_move_when_it_dies(tmp_path: Path) -> None:
    """H5, H6: placed by labels and capacity; kill -9 of the node; its return runs nothing twice."""
    async with running_swarm(tmp_path / "home", TOML, FILES, up=1) as home, home.client() as swarm:
        rows = {row["name"]: row for row in await swarm.ps()}
        assert rows["gpu"]["status"] == "absent"
        assert rows["gpu"]["reason"] == "gpu/1 fits on no node: no node has gpu among its labels"
        assert "Let a machine join that fits" in (await home.cli("doctor", check=None)).stdout
        assert "gpu is absent: gpu/1 fits on no node" in (await home.cli("ps")).stdout

        options = ("--labels", "gpu,eu", "--capacity", "2")
        async with joined(home, tmp_path / "second", invite=options) as machine:
            both = {"ada": ["node"], "bob": ["node", "node"], "gpu": ["node-2"]}
            await placed(swarm, both, machine)
            await swarm.stop("bob")
            await swarm.start("bob")
            both["bob"] = ["node", "node-2"]  # replicas lie apart
            await placed(swarm, both, machine)
            assert (await swarm.ask("gpu", "hello", timeout=20))["text"]

            secrets = machine.project.home / "secrets"
            assert not machine.project.authority_file.exists() and not machine.project.operator_file.exists()
            assert all(file.stat().st_mode & 0o077 == 0 for file in secrets.iterdir())
            again = tmp_path / "third"
            again.mkdir()
            refused = subprocess.run(
                [SWARM, "node", "--join", str(machine.folder / "link")],
                cwd=again, capture_output=True, text=True, timeout=30,
            )  # fmt: skip
            assert refused.returncode == 5 and "used by another machine" in refused.stderr, refused

            machine.kill()
            await placed(swarm, {"ada": ["node"], "bob": ["node", "node"]}, machine)
            gpu = next(row for row in await swarm.ps() if row["name"] == "gpu")
            assert gpu["reason"] == "gpu/1 fits on no node: no node has gpu among its labels"

            machine.start()  # no link needed any more
            await placed(swarm, {"ada": ["node"], "bob": ["node", "node"], "gpu": ["node-2"]}, machine)
            assert await machine.stop() == 0, machine.log
            await placed(swarm, {"ada": ["node"], "bob": ["node", "node"]}, machine)
