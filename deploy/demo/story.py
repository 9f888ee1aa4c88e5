"""What is shown, in order. Everything is real: processes, servers, files, the kill.

start          embedded servers, a coordinator, a node and the gallery's agents; the herald is sent away
delegate       the surveyor gets the folder as its task, and gives each file as a task to its readers
kill           in the middle a reader that has work in hand is killed with SIGKILL
complete       the node starts it again, its tasks are tried again, the report has each file once
announce       the herald comes back and finds what was announced while it was away
stop           nothing is left
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any, Final

from bus.credentials import read_secret
from bus.errors import BusError
from deploy.demo.project import DemoFailed, name_of, on_the_wire, report_file
from deploy.demo.screen import GREEN, YELLOW, Screen
from deploy.provision import load_plan
from deploy.supervisor import Supervisor, first_cause
from swarm.client import Swarm
from swarm.errors import SwarmError
from swarm.project import Project
from swarm.records import TERMINAL_TASK_STATES, Task
from swarm.stores.postgres import PostgresLedger

SURVEY_SECONDS: Final = 900.0
HERALD_SECONDS: Final = 20.0
RETURN_SECONDS: Final = 15.0
KILL_AT_PERCENT: Final = 25.0
LINES_SHOWN: Final = 24


class _DemoSupervisor(Supervisor):
    """A supervisor that also tells when it is asked to stop, so that the story ends at Ctrl-C at once."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked_to_stop = asyncio.Event()

    def stop(self) -> None:
        self.asked_to_stop.set()
        super().stop()


async def tell_story(project: Project, folder: Path, screen: Screen) -> int:
    """The exit code. What was started has ended when this returns or raises."""
    shown = os.fsencode(folder).decode("utf-8", "backslashreplace")
    screen.title(f"A swarm surveys {shown}")
    ready: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    def on_ready(missing: list[str]) -> None:
        if not ready.done():
            ready.set_result(missing)

    screen.say("starting NATS, Postgres, a coordinator, a node and the agents …")
    supervisor = _DemoSupervisor(project, await load_plan(project), on_ready)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(supervisor.run())
        telling = group.create_task(_told(_Story(project, folder, screen), ready))
        interrupted = group.create_task(supervisor.asked_to_stop.wait())
        await asyncio.wait({serving, telling, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            screen.say("stopping everything …")
        elif interrupted.done():
            screen.say("interrupted: stopping everything … (Ctrl-C again hurries)", YELLOW)
        was_interrupted = interrupted.done()
        interrupted.cancel()
        if telling.done():
            supervisor.stop()
        telling.cancel()
        await serving
    screen.say("nothing is left running")
    if was_interrupted:
        return 130
    if telling.cancelled():
        raise DemoFailed(f"The swarm ended by itself; see {project.logs}.")
    failure = telling.result()
    if failure is not None:
        raise failure
    return 0


async def _told(story: _Story, ready: asyncio.Future[list[str]]) -> SwarmError | BusError | None:
    """Tell it, and return what made it fail: the swarm is drained then as after a good end."""
    failure: BaseException | None = None
    try:
        await story.tell(ready)
    except* (SwarmError, BusError) as failures:
        failure = first_cause(failures)
    assert failure is None or isinstance(failure, SwarmError | BusError)
    return failure


class _Story:
    def __init__(self, project: Project, folder: Path, screen: Screen) -> None:
        self._project = project
        self._folder = folder
        self._screen = screen
        self._report = report_file(project, folder)
        self._has_killed = False

    async def tell(self, ready: asyncio.Future[list[str]]) -> None:
        """From a swarm that is starting to the end of the story. Raises DemoFailed."""
        missing = await ready
        if missing:
            raise DemoFailed(f"Not everything became ready: {'; '.join(missing)}.")
        ledger = PostgresLedger(read_secret(self._project.home / "secrets" / "store_url").strip(), "demo")
        try:
            async with Swarm.connect(self._project) as swarm:
                await self._introduce(swarm)
                task = await self._survey(swarm, ledger)
                self._conclude(task, await ledger.subtasks(task.id))
                await self._herald(swarm)
        finally:
            await ledger.close()
        self._show_report()

    async def _introduce(self, swarm: Swarm) -> None:
        await swarm.stop("herald")
        self._screen.say("ready. The herald is away; what is announced will wait for it.", GREEN)
        self._screen.tree(await swarm.tree(), await swarm.ps())

    # ── the job ───────────────────────────────────────────────────────────────────────────────────
    async def _survey(self, swarm: Swarm, ledger: PostgresLedger) -> Task:
        """Delegate the survey, show it, kill a reader in the middle; returns the task when it has ended."""
        self._screen.title("The job")
        accepted = await swarm.delegate(
            "surveyor",
            "survey: the folder given as input",
            input={"path": on_the_wire(self._folder), "report": on_the_wire(self._report)},
            deadline=SURVEY_SECONDS,
        )
        self._screen.say(
            f"operator → surveyor: survey {accepted['id']}, a task for each file goes to its readers"
        )
        told: set[str] = set()
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill_one(swarm, ledger, accepted["id"]))
            while True:
                began = time.monotonic()
                task, subtasks = await _look(ledger, accepted["id"])
                self._tell_ended(task, subtasks, told)
                if task.state in TERMINAL_TASK_STATES:
                    break
                # A large survey is looked at less often: looking costs what it holds.
                await asyncio.sleep(max(0.1, 5 * (time.monotonic() - began)))
            if self._has_killed:
                await asyncio.wait({killing}, timeout=RETURN_SECONDS)
            else:
                self._screen.say("the job was over before a reader with work in hand could be killed", YELLOW)
            killing.cancel()
        if task.state != "completed":
            raise DemoFailed(f"The survey ended as {task.state}: {task.error or 'without a reason'}")
        return task

    def _tell_ended(self, task: Task, subtasks: list[Task], told: set[str]) -> None:
        """Tell of every task, while they are few; of many, of those that took more than one attempt."""
        ended = [sub for sub in subtasks if sub.state in TERMINAL_TASK_STATES]
        fresh = [sub for sub in ended if sub.id not in told]
        for sub in fresh:
            told.add(sub.id)
            if len(told) <= 400 or sub.attempts > 1 or sub.state != "completed":
                self._screen.task(task.progress or 0.0, sub, self._name(sub))
            elif len(told) % 100 == 0:
                self._screen.say(f"{task.progress or 0:3.0f} %  {len(told)} files")

    def _name(self, task: Task) -> str:
        return name_of(str(task.input.get("path", task.goal)), self._folder)

    async def _kill_one(self, swarm: Swarm, ledger: PostgresLedger, survey: str) -> None:
        """Kill a reader that has work in hand, once a part of the job is done; tell when it is back."""
        while True:
            await asyncio.sleep(0.05)
            if (await _progress(ledger, survey)) < KILL_AT_PERCENT:
                continue
            for row in await _readers(swarm):
                if await self._killed(swarm, row):
                    return await self._wait_for_return(swarm, row)

    async def _killed(self, swarm: Swarm, row: dict[str, Any]) -> bool:
        """Whether it was killed: it is held first, so that what it has in hand cannot be finished meanwhile."""
        pid, count = int(row["pid"]), 0
        try:
            os.kill(pid, signal.SIGSTOP)
            held = [one for one in await _readers(swarm) if one["instance"] == row["instance"]]
            count = held[0]["in_flight"] if held else 0
        except ProcessLookupError:
            return False
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if count else signal.SIGCONT)
        if not count:
            return False
        self._has_killed = True
        self._screen.say(
            f"kill -9 {pid}: reader {row['instance']} dies with {count} task{'s'[: count != 1]} in hand",
            YELLOW,
        )
        return True

    async def _wait_for_return(self, swarm: Swarm, dead: dict[str, Any]) -> None:
        began = time.monotonic()
        known = {row["pid"] for row in await _readers(swarm)}
        while True:
            for row in await _readers(swarm):
                if row["pid"] not in known and row["pid"] != dead["pid"]:
                    seconds = time.monotonic() - began
                    self._screen.say(
                        f"the node has started a new reader: pid {row['pid']}, {seconds:.1f} s later", GREEN
                    )
                    return
            await asyncio.sleep(0.05)

    # ── what came of it ───────────────────────────────────────────────────────────────────────────
    def _conclude(self, task: Task, subtasks: list[Task]) -> None:
        data = task.result.data if task.result is not None else {}
        again = [sub for sub in subtasks if sub.attempts > 1]
        self._screen.say(task.result.text if task.result is not None else "", GREEN)
        if subtasks:
            states = ", ".join(f"{count} {state}" for state, count in sorted(_states(subtasks).items()))
            names = ", ".join(f"{self._name(sub)} ({sub.attempts})" for sub in again[:8])
            more = (
                f"{len(again)} took more than one attempt: {names}" if again else "none took a second attempt"
            )
            self._screen.block([f"{len(subtasks)} tasks: {states}; {more}{' …' if len(again) > 8 else ''}"])
        sections = [line for line in self._report.read_text("utf-8").splitlines() if line.startswith("#### ")]
        if not len(sections) == len(set(sections)) == len(subtasks) == data.get("files"):
            raise DemoFailed(
                f"The report has {len(sections)} files ({len(set(sections))} different) for {len(subtasks)} tasks."
            )
        if subtasks:
            self._screen.block(["each file stands in the report once"])

    async def _herald(self, swarm: Swarm) -> None:
        self._screen.title("The announcement")
        inbox = await swarm.inbox("herald")
        self._screen.say(f"waiting for the herald: {inbox['waiting']}. Starting it …")
        await swarm.start("herald")
        try:
            async with asyncio.timeout(HERALD_SECONDS):
                answer = await self._news(swarm)
        except TimeoutError:
            raise DemoFailed(f"The herald did not know the news within {HERALD_SECONDS:.0f} s.") from None
        self._screen.say("operator → herald: what's new?")
        self._screen.block([f"herald: {answer['text']}"])

    async def _news(self, swarm: Swarm) -> dict[str, Any]:
        """Asked until it knows: the announcement is on its way to it while we ask."""
        while True:
            answer = await swarm.ask("herald", "what's new?", timeout=10.0)
            if answer["data"].get("news"):
                return answer
            await asyncio.sleep(0.1)

    def _show_report(self) -> None:
        self._screen.title(f"The report: {self._report}")
        lines = self._report.read_text("utf-8").splitlines()
        self._screen.block(lines[:LINES_SHOWN])
        if len(lines) > LINES_SHOWN:
            self._screen.block([f"… and {len(lines) - LINES_SHOWN} lines more"])


async def _look(ledger: PostgresLedger, id: str) -> tuple[Task, list[Task]]:
    """The task first: what it says is then never more than what its subtasks show."""
    task = await ledger.task(id)
    assert task is not None
    return task, await ledger.subtasks(id)


async def _progress(ledger: PostgresLedger, id: str) -> float:
    task = await ledger.task(id)
    return 0.0 if task is None or task.progress is None else task.progress


async def _readers(swarm: Swarm) -> list[dict[str, Any]]:
    """The live instances of the reader, the busiest first."""
    rows = [
        row for row in await swarm.ps() if row["name"] == "reader" and row["status"] == "ready" and row["pid"]
    ]
    return sorted(rows, key=lambda row: -row["in_flight"])


def _states(tasks: list[Task]) -> dict[str, int]:
    return {state: sum(task.state == state for task in tasks) for state in {task.state for task in tasks}}
