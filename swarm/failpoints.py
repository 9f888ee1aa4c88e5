"""Failpoints: named places on a message's and a task's way where a test makes a process die, stop, sleep or raise.

In production they are nothing: unarmed, `reached` looks at one global and returns. A test gives the processes a
folder in the environment variable `SWARM_FAILPOINTS` *when they start*, and arms a failpoint at any time by a file of
its name in there with an action; the first process that reaches it takes the file, so that each fires once and
whoever comes next passes.

    exit        SIGKILL to this process: not a word more
    stop        SIGSTOP to this process; it goes on at SIGCONT
    sleep 2.5   blocks the process for so many seconds
    raise       Failpoint is raised here
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

VARIABLE: Final = "SWARM_FAILPOINTS"

NAMES: Final[Mapping[str, str]] = {
    "agent.receive": "a delivery or an ask has come down to an instance",
    "agent.commit.before": "a turn is done and nothing of it is written",
    "agent.commit.after": "a turn is committed and nobody has been told",
    "agent.bell.before": "a bell is about to be rung",
    "agent.bell.after": "a bell has been rung",
    "agent.delegate.before": "a task is about to be given",
    "agent.delegate.after": "a task is accepted and its giver does not know yet",
    "agent.hello": "an instance is about to say hello",
    "coordinator.accept.before": "a message is about to be accepted for somebody without a store",
    "coordinator.accept.after": "such a message is accepted and nobody knows yet",
    "coordinator.bell": "a bell has been heard",
    "coordinator.claim.before": "what waits is about to be claimed",
    "coordinator.claim.after": "it is claimed, in the ledger only",
    "coordinator.publish.before": "a dispatch, or an answer, is about to be sent",
    "coordinator.publish.after": "it is sent",
    "coordinator.release.before": "what nobody has in hand is about to go back to the ledger",
    "coordinator.release.after": "it is back",
    "coordinator.lease.renew": "the lease is about to be taken or renewed",
    "coordinator.lease.renewed": "the lease is taken or renewed",
    "node.assigned": "a node has heard what it should run",
    "node.forked": "a node has forked an instance",
}


class Failpoint(Exception):
    """What an armed failpoint raises; nobody expects it."""


_folder: Path | None = Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def reached(name: str) -> None:
    """Nothing, unless a test has armed this failpoint. `name` is one of `NAMES`."""
    if _folder is not None:
        _fire(_folder, name)


def arm(folder: Path, name: str, action: str) -> None:
    """For tests: the next process to reach it, of those started with this folder, does `action`."""
    if name not in NAMES:
        raise LookupError(f"there is no failpoint {name}")
    if action.partition(" ")[0] not in ("exit", "stop", "sleep", "raise"):
        raise LookupError(f"there is no action {action}")
    fresh = folder / f".{name}"
    fresh.write_text(action)
    fresh.rename(folder / name)  # whole or not at all


def is_armed(folder: Path, name: str) -> bool:
    """Whether nobody has reached it yet."""
    return (folder / name).exists()


def _fire(folder: Path, name: str) -> None:
    armed, mine = folder / name, folder / f"{name}.{os.getpid()}"
    try:
        armed.rename(mine)
    except FileNotFoundError:
        return
    action, _, seconds = mine.read_text().partition(" ")
    match action:
        case "exit":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep":
            time.sleep(float(seconds))
        case _:
            raise Failpoint(name)
