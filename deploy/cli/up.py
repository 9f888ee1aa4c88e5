"""`swarm up`: start what swarm.toml names; while it runs, converge on the edited file."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from typing import Any

from deploy.cli.frame import add_common
from deploy.cli.output import put_json
from deploy.converging import START_SECONDS, converge
from deploy.last_line import last_line
from deploy.logview import LogView, follow
from deploy.processes import open_log
from deploy.provision import Plan, load_plan
from deploy.supervisor import ALREADY_RUNS, AlreadyRuns, Supervisor, is_locked
from deploy.watch import Watch
from swarm.errors import SwarmError
from swarm.project import Project, RunState, Standing


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    stay = parser.add_mutually_exclusive_group()
    stay.add_argument("-d", "--detach", action="store_true", help="return when all are ready")
    stay.add_argument("--watch", action="store_true", help="stay, and restart agents whose folder changed")


def run(args: Namespace) -> int:
    project = Project.find(args.file)
    plan = asyncio.run(load_plan(project))  # before anything is touched
    project.prepare()
    began = time.monotonic()

    def say(missing: list[str], standing: Standing, changes: list[str] | None = None) -> None:
        _say(plan, missing, standing, changes, time.monotonic() - began, args.json)

    watch = Watch(project, plan, lambda said: _say_changes(said, args.json)) if args.watch else None
    if not is_locked(project):
        try:
            return _detached(project, say) if args.detach else _attached(project, plan, say, watch)
        except AlreadyRuns:
            pass  # somebody was faster: converge on the same file
    return (
        asyncio.run(_converge(project, plan, say)) if watch is None else _watched(project, plan, say, watch)
    )


# ── here ──────────────────────────────────────────────────────────────────────────────────────────
def _attached(
    project: Project, plan: Plan, say: Callable[[list[str], Standing], None], watch: Watch | None
) -> int:
    """Stay, with everybody's logs on stderr, until told to stop."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)

    def on_ready(missing: list[str]) -> None:
        state = project.state()
        say(missing, Standing() if state is None else state.standing)

    async def serve() -> int:
        view = LogView(project)
        view.skip()
        async with asyncio.TaskGroup() as tasks:
            beside = [tasks.create_task(follow(view, sys.stderr))]
            if watch is not None:
                beside.append(tasks.create_task(watch.run()))
            supervisor = Supervisor(project, plan, on_ready)
            try:
                return await supervisor.run()
            finally:
                for task in beside:
                    task.cancel()

    return asyncio.run(serve())


# ── detached ──────────────────────────────────────────────────────────────────────────────────────
def _detached(project: Project, say: Callable[[list[str], Standing], None]) -> int:
    """Start a supervisor in a session of its own and wait until it says that all is ready."""
    log_file = project.log_of("supervisor")
    with open_log(log_file) as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "deploy.supervisor", str(project.file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=project.folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    try:
        state = _wait_for_state(project, child)
    except KeyboardInterrupt:
        child.send_signal(signal.SIGTERM)
        child.wait()
        raise
    if state is None:
        if child.returncode == ALREADY_RUNS:
            raise AlreadyRuns("another was faster")
        raise SwarmError(f"The swarm could not start: {last_line(log_file)}; see {log_file}.")
    say(list(state.report), state.standing)
    return 1 if state.report else 0


def _wait_for_state(project: Project, child: subprocess.Popen[bytes]) -> RunState | None:
    """The supervisor's state once it is ready; None when it ended before."""
    until = time.monotonic() + START_SECONDS
    last: RunState | None = None
    while time.monotonic() < until:
        state = project.state()
        if state is not None and state.supervisor.pid == child.pid:
            last = state
        if last is not None and last.ready:
            return last
        if child.poll() is not None:
            return None
        time.sleep(0.02)
    child.send_signal(signal.SIGTERM)
    child.wait()
    raise SwarmError(f"The swarm was not up within {START_SECONDS:g} s; see {project.log_of('supervisor')}.")


# ── again ─────────────────────────────────────────────────────────────────────────────────────────
async def _converge(project: Project, plan: Plan, say: Callable[..., None]) -> int:
    """Another `swarm up` runs: make its registry and its processes agree with the file as it is now."""
    done = await converge(project, plan)
    say(done.missing, done.standing, done.changes)
    return 1 if done.missing else 0


def _watched(project: Project, plan: Plan, say: Callable[..., None], watch: Watch) -> int:
    """Converge on what runs already, and stay to watch until told to stop, or until it has ended."""

    async def stay() -> int:
        code = await _converge(project, plan, say)
        await watch.run()
        return code

    try:
        return asyncio.run(stay())
    except KeyboardInterrupt:
        return 0  # what runs goes on


def _say_changes(said: dict[str, Any], as_json: bool) -> None:
    if as_json:
        put_json(said)
    else:
        names = ", ".join(name or "swarm.toml" for name in said["changed"])
        print(f"changed: {names}{'' if said['kept'] else '; applied'}")
        for sentence in said["changes"]:
            print(f"  {sentence}")
        for sentence in (*said["kept"], *said["missing"]):
            print(f"swarm: {sentence}", file=sys.stderr)
    sys.stdout.flush()


def _stands(plan: Plan, standing: Standing) -> Iterator[str]:
    for name in standing.stopped:
        yield f"{name} stays stopped, its mail waits; `swarm start {name}` starts it"
    for agent in plan.agents:
        if agent.name in standing.scaled and agent.scale is None:
            yield (
                f"{agent.name} stays at {standing.scaled[agent.name]} replicas, as it was scaled; "
                f"`swarm scale {agent.name} {agent.replicas}` makes it what the file says"
            )
    if standing.asleep:
        yield f"asleep, and started by their next message: {', '.join(standing.asleep)}"


def _say(
    plan: Plan,
    missing: list[str],
    standing: Standing,
    changes: list[str] | None,
    seconds: float,
    as_json: bool,
) -> None:
    running = [agent for agent in plan.agents if agent.name not in (*standing.stopped, *standing.asleep)]
    instances = sum(standing.scaled.get(agent.name, agent.replicas) for agent in running)
    if as_json:
        answer: dict[str, Any] = {
            "swarm": plan.config.swarm.name,
            "status": "ready" if not missing else "incomplete",
            "agents": len(running),
            "instances": instances,
            "missing": missing,
            "stopped": list(standing.stopped),
            "asleep": list(standing.asleep),
            "scaled": standing.scaled,
            "seconds": round(seconds, 2),
        }
        put_json(answer if changes is None else answer | {"changes": changes})
        sys.stdout.flush()
        return
    for change in changes or ():
        print(change)
    if changes == []:
        print("nothing has changed")
    if not missing:
        print(f"{plan.config.swarm.name} is ready: {instances} instances of {len(running)} agents "
              f"({seconds:.1f} s)")  # fmt: skip
    for sentence in _stands(plan, standing):
        print(sentence)
    sys.stdout.flush()
    for sentence in missing:
        print(f"swarm: {sentence}", file=sys.stderr)
    if missing:
        print(f"swarm: {plan.config.swarm.name} runs, but not all of it is ready", file=sys.stderr)
