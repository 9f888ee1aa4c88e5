"""I13: no process is alive but deaf. An agent's only instance is frozen, or blocks its loop: its node replaces it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from swarm.testing import eventually
from tests.running import running_swarm

PLUGIN = '''
import time
from pathlib import Path

from swarm import Plugin

plugin = Plugin("blocking")


@plugin.action()
async def block(message, runtime):
    """Blocks the loop the first time it runs."""
    was = Path(__file__).parent / "was-blocked"
    if not was.exists():
        was.touch()
        time.sleep(600)


@plugin.action()
async def note(message, runtime):
    """Notes it."""
'''
NAMES = ("ada", "bob", "cyd", "dan", "eve")
"""So many that two silent ones are not the machine's fault."""
FILES = {
    **{f"agents/{name}/character.json": f'{{"name": "{name}", "bio": "Works."}}' for name in NAMES},
    **{f"agents/{name}/plugin.py": PLUGIN for name in NAMES},
}
TOML = "[swarm]\nname = 'frozen'\n" + "".join(f"[agents.{n}]\ncharacter = 'agents/{n}'\n" for n in NAMES)


async def test_i13_a_frozen_and_a_blocked_instance_are_replaced_and_their_mail_is_handled(
    tmp_path: Path,
) -> None:
    async with running_swarm(tmp_path / "frozen", TOML, FILES) as running, running.client() as swarm:
        pids = {row["name"]: row["pid"] for row in await swarm.ps()}
        os.kill(pids["ada"], signal.SIGSTOP)
        told = [await swarm.tell("ada", "note: it"), await swarm.tell("ada", "note: that")]
        told += [await swarm.tell("bob", "block: it"), await swarm.tell("bob", "note: that")]

        async def handled() -> Any:
            views = [await swarm.message(one["id"]) for one in told]
            return all(view["deliveries"][0]["state"] == "handled" for view in views)

        await eventually(handled, seconds=40, what="the mail of both")
        after = {row["name"]: row for row in await swarm.ps()}
        assert after["ada"]["pid"] != pids["ada"] and after["bob"]["pid"] != pids["bob"]
        assert after["ada"]["restarts"] == after["bob"]["restarts"] == 1
        assert after["cyd"]["pid"] == pids["cyd"]
        log = running.project.log_of("bob-1").read_text()
        assert "time.sleep(600)" in log or 'plugin.py", line' in log, log[-2000:]
        for pid in (pids["ada"], pids["bob"]):
            assert not Path(f"/proc/{pid}").exists()
