"""A second machine with a network of its own, whose plug is pulled, and with the node as its PID 1."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from deploy.processes import ProcessId
from swarm.testing import eventually
from tests.joined import Machine, joined
from tests.namespaces import network, process_tree
from tests.proxy import Proxy
from tests.running import running_swarm

pytestmark = pytest.mark.timeout(180)

TOML = """
[swarm]
name = "spaces"
[agents.ada]
character = "agents/ada.json"
replicas = 2
"""
FILES = {"agents/ada.json": '{"name": "Ada", "bio": "Talks."}'}


def children(pid: int) -> dict[int, str]:
    """The pids of a process's children with the kernel's letter for their state."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            found[int(child)] = (
                Path(f"/proc/{child}/stat").read_bytes().rpartition(b")")[2].split()[0].decode()
            )
        except OSError:
            continue
    return found


async def test_a_machine_whose_plug_is_pulled_is_replaced_and_a_node_that_is_pid_1_reaps_and_obeys(
    tmp_path: Path,
) -> None:
    """Where the kernel refuses a namespace it says so, and the same is done with the proxy, and without PID 1."""
    async with running_swarm(tmp_path / "home", TOML, FILES) as home, home.client() as swarm:
        state = home.project.require_state()
        with network() as net:
            host = "127.0.0.1" if net is None else net.host
            async with Proxy(state.bus_url, host) as bus, Proxy(state.store_url, host) as store:
                invite = ("--bus-url", bus.url(state.bus_url), "--store-url", store.url(state.store_url))
                before = (*(() if net is None else net.before), *process_tree())
                async with joined(home, tmp_path / "second", invite=invite, before=before) as machine:

                    async def nodes() -> list[str]:
                        return sorted(row["node"] for row in await swarm.ps() if row["status"] == "ready")

                    async def apart() -> bool:
                        return await nodes() == ["node", "node-2"]

                    async def joined_twice() -> bool:
                        return bool((await swarm.ping())["nodes"] == 2)

                    await eventually(joined_twice, seconds=30, what="node-2 to join")
                    await swarm.stop("ada")
                    await swarm.start("ada")
                    await eventually(apart, seconds=20)

                    if net is not None:
                        net.set("down")
                    for line in () if net is not None else (bus, store):
                        line.refuse = True
                        line.hang_up()

                    async def replaced() -> bool:
                        return await nodes() == ["node", "node"]

                    await eventually(replaced, seconds=30, what="the other machine to take over")
                    if net is not None:
                        net.set("up")
                    bus.refuse = store.refuse = False
                    await eventually(joined_twice, seconds=40, what="node-2 to come back")
                    await eventually(replaced, seconds=20)
                    await swarm.stop("ada")
                    await swarm.start("ada")
                    await eventually(apart, seconds=30)
                    killed = {row["instance"] for row in await swarm.ps() if row["node"] == "node-2"}
                    await _kill_the_warm_parent(machine)

                    async def anew() -> bool:
                        rows = await swarm.ps()
                        return await apart() and not killed & {row["instance"] for row in rows}

                    await eventually(anew, seconds=30, what="the slots to be filled again")
                    await eventually(lambda: "Z" not in children(machine.pid()).values(), what="no zombie")
                    assert await machine.stop() == 0, machine.log


async def _kill_the_warm_parent(machine: Machine) -> None:
    """What it was the parent of is PID 1's then."""
    [warm] = children(machine.pid())
    process = ProcessId.of(warm)
    assert process is not None
    os.kill(warm, signal.SIGKILL)
    assert await process.gone(10)
