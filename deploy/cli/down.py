"""`swarm down`: drain and stop all of it, and make sure that nothing is left."""

from __future__ import annotations

import asyncio
import logging
import signal
from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, positive
from deploy.cli.output import put_json

DRAIN_SECONDS = 60.0
"""More than the drain of any instance and the stop of the servers; the supervisor's own bounds come first."""


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("--drain", type=positive, metavar="S", help="seconds that instances have to finish")


def run(args: Namespace) -> int:
    from swarm.project import Project

    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    project = Project.find(args.file)
    ran, left = asyncio.run(_down(project, args.drain))
    if args.json:
        put_json({"stopped": not left, "ran": ran, "left": left})
    elif left:
        print(f"processes {', '.join(map(str, left))} do not end; end them by hand")
    else:
        print("stopped" if ran else "nothing was running")
    return 1 if left else 0


async def _down(project: object, drain: float | None) -> tuple[bool, list[int]]:
    """Whether anything ran, and the pids of what could not be ended."""
    from deploy.processes import ProcessId, end, find_strays
    from deploy.supervisor import clear_strays, is_locked
    from swarm.project import Project

    assert isinstance(project, Project)
    state = project.state()
    ran = False
    if state is not None:
        supervisor = ProcessId(state.supervisor.pid, state.supervisor.started)
        ran = supervisor.alive()
        # The second SIGTERM makes it hurry, the third kills; it cleans up after itself in any case.
        steps = (
            (signal.SIGTERM, drain or DRAIN_SECONDS),
            (signal.SIGTERM, 10.0),
            (signal.SIGTERM, 5.0),
            (signal.SIGKILL, 5.0),
        )
        await end(supervisor, steps)
    if project.home.is_dir() and not is_locked(project):
        ran = await clear_strays(project) > 0 or ran
        project.clear_state()
    left = await asyncio.to_thread(find_strays, project.mark)
    return ran, [process.pid for process in left]
