"""The node: one on each machine. It runs the instances that the coordinator assigns to it, and says so.

A node decides nothing about agents: an `Assignment` names all that should run here, slots make it so, and a
`NodeBeat` says what is. It keeps what it has when the coordinator or the bus is away. Each instance gets a
credential and a database role of its own, minted here; the machine's rights end where its agents' begin.

Run as ``python -m deploy.node SETTINGS``, a JSON file of `NodeSettings`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import msgspec

from bus.agent_keys import AgentKeys
from bus.bus import Bus, Incoming
from bus.credentials import Credentials
from bus.envelope import read_body
from bus.errors import BusError, Disconnected
from bus.subjects import Subjects
from deploy.births import Births
from deploy.crash_storm import CrashStorm
from deploy.cut_off import CutOff
from deploy.enrolment import Enrolment
from deploy.joining import keys_of
from deploy.logins import said_by
from deploy.node_pages import serve_pages
from deploy.node_settings import NodeSettings, read_settings
from deploy.processes import end_strays
from deploy.reaping import reap_strays
from deploy.slot import Slot
from deploy.zygote import Exited, Zygote, ZygoteFailed
from swarm import protocol
from swarm.errors import ConfigError, SwarmError, exit_code
from swarm.failpoints import reached
from swarm.project import Project
from swarm.protocol import BEAT_SECONDS, Assignment, NodeBeat, NodeInstance, Placement, RollCall
from swarm.telemetry import configure_logging

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 30.0
"""How long a bus that cannot be reached is tried at the start."""


class Node:
    """One node from its first hello to its end."""

    def __init__(self, settings: NodeSettings, bus: Bus, keys: AgentKeys) -> None:
        self._settings = settings
        self._bus = bus
        self._project = Project(Path(settings.file))
        self._births = Births(settings, bus, keys)
        self._enrolment = Enrolment(settings, self._project, bus)
        self._storm = CrashStorm(lambda: len(self._slots), lambda: bus.connected)
        self._cut_off = CutOff(lambda: bus.connected)
        self._subjects = Subjects(settings.swarm)
        self._slots: dict[tuple[str, int], Slot] = {}
        self._tasks: asyncio.TaskGroup
        self._zygote: Zygote | None = None
        self._warm = asyncio.Event()
        self._beat_now = asyncio.Event()
        self._hello = True
        self._epoch = 0
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    # ── its life ──────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Serves until `stop`, then drains. Raises Disconnected when the bus is gone for good."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            keepers = [
                tasks.create_task(self._keep_warm()),
                tasks.create_task(self._say_beats()),
                tasks.create_task(self._mind_the_bus()),
                tasks.create_task(self._cut_off.run(self._end_all, self._back)),
                tasks.create_task(reap_strays(self._own_children)),
            ]
            await self._bus.subscribe(self._subjects.node_down(self._settings.node), self._hear)
            await self._bus.subscribe(self._subjects.all, self._hear)
            await self._stopping.wait()
            log.info("draining %d instances", self._end_all())
            while self._slots:
                self._ended.clear()
                await self._ended.wait()
            for keeper in keepers:
                keeper.cancel()
        await self._beat()
        if self._zygote is not None:
            await self._zygote.stop(grace=1.0)

    def stop(self) -> None:
        """Drain; called again it hurries, and a third time it kills."""
        if self._stopping.is_set():
            for slot in self._slots.values():
                slot.hurry()
        self._stopping.set()

    def _end_all(self) -> int:
        for slot in self._slots.values():
            slot.want(None)
        return len(self._slots)

    def _back(self) -> None:
        """On the bus again after others took over: what we should run now is the coordinator's to say."""
        self._hello = True
        self._beat_now.set()

    def _own_children(self) -> tuple[int, ...]:
        return () if self._zygote is None else (self._zygote.pid,)

    def not_ready(self) -> list[str]:
        """Why this node could not start an instance now."""
        reasons = [] if self._bus.connected else ["The bus cannot be reached."]
        if not self._warm.is_set():
            reasons.append("The warm parent is not up.")
        return reasons

    def rows(self) -> list[NodeInstance]:
        """What this node runs, as its beats say it."""
        return [slot.snapshot() for slot in self._slots.values()]

    async def _keep_warm(self) -> None:
        """Keep one warm parent; when it dies, all instances died with it, and another is started."""
        wait = 0.2
        while True:
            began = time.monotonic()
            if left := await end_strays(agents_mark(self._project)):
                log.warning("ended %d processes of a dead node", left)
            try:
                self._zygote = await Zygote.start(
                    preload=self._settings.preload,
                    on_exit=self._births.ended,
                    log_file=self._project.log_of("zygote"),
                    mark=agents_mark(self._project),
                )
                log.info("the warm parent is process %d", self._zygote.pid)
                self._warm.set()
                await self._zygote.lost()
                log.error("the warm parent ended; starting another")
            except ZygoteFailed as error:
                log.error("%s", error)  # noqa: TRY400 - a sentence says it all
            self._warm.clear()
            self._zygote = None
            wait = 0.2 if time.monotonic() - began > 60 else min(10.0, wait * 2)
            await asyncio.sleep(wait)

    async def _mind_the_bus(self) -> None:
        await self._bus.wait_closed()
        if not self._stopping.is_set():
            raise Disconnected("The bus no longer takes this node; start it again with fresh credentials.")

    # ── what it hears ─────────────────────────────────────────────────────────────────────────────
    def _hear(self, incoming: Incoming) -> None:
        if incoming.envelope.kind != "control":
            return
        said = cast("type[protocol.CoordinatorSays]", protocol.CoordinatorSays)
        match read_body(incoming.envelope, said):
            case RollCall():
                self._hello = True
                self._beat_now.set()
            case Assignment() as assignment:
                self._assign(assignment)
            case protocol.Unresponsive() as gone if gone.epoch >= self._epoch:
                for slot in self._slots.values():
                    slot.unresponsive(gone.agent, gone.instance)
            case protocol.Enrol() as enrol if self._enrolment.possible:
                self._tasks.create_task(self._enrolment.answer(enrol, incoming))

    def _assign(self, assignment: Assignment) -> None:
        """Converge on what is assigned; an older coordinator's word is not heard."""
        if assignment.epoch < self._epoch or self._stopping.is_set():
            return
        self._epoch = assignment.epoch
        self._cut_off.others = assignment.others
        reached("node.assigned")
        wanted = {(each.agent, each.slot): each for each in assignment.placements}
        for place, slot in self._slots.items():
            slot.want(wanted.get(place))
        for place, placement in wanted.items():
            if place not in self._slots:
                log_file = self._project.log_of(f"{placement.agent}-{placement.slot}")
                self._slots[place] = Slot(placement, log_file, self, self._settings.drain_seconds)
                self._tasks.create_task(
                    self._run_slot(place), name=f"slot {placement.agent}-{placement.slot}"
                )
        self._beat_now.set()

    async def _run_slot(self, place: tuple[str, int]) -> None:
        slot = self._slots[place]
        try:
            while slot.wanted is not None:
                await slot.run()
        finally:
            del self._slots[place]
            self._beat_now.set()
            self._ended.set()

    # ── what it says ──────────────────────────────────────────────────────────────────────────────
    async def _say_beats(self) -> None:
        """The whole state: at once when it changed, and every beat."""
        while True:
            self._beat_now.clear()
            await self._beat()
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    await self._beat_now.wait()
                await asyncio.sleep(0.02)  # changes come in flocks
            except TimeoutError:
                pass

    async def _beat(self) -> None:
        verb = "hello" if self._hello else "beat"
        self._hello = False
        beat = NodeBeat(
            node=self._settings.node,
            pid=os.getpid(),
            instances=tuple(self.rows()),
            capacity=self._settings.most_instances,
            labels=self._settings.labels,
            enrols=self._enrolment.possible,
        )
        await self._say(verb, beat)

    async def _say(self, verb: str, body: msgspec.Struct) -> None:
        try:
            await self._bus.publish(
                self._subjects.node_up(self._settings.node, verb), said_by(self._settings.node, body)
            )
        except Disconnected:
            raise
        except BusError as error:
            log.warning("a %s was not said: %s", verb, error)

    # ── for its slots ─────────────────────────────────────────────────────────────────────────────
    async def fork(
        self, placement: Placement, instance: str, log_file: Path
    ) -> tuple[int, asyncio.Future[Exited]]:
        await self._warm.wait()
        zygote = self._zygote
        if zygote is None:
            raise ZygoteFailed("The warm parent has just ended.")
        born = await self._births.fork(zygote, placement, instance, log_file)
        reached("node.forked")
        return born

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        if self._zygote is not None:
            self._zygote.signal(pid, number, group=group)

    def changed(self, slot: Slot, exited: Exited | None = None, crashed: bool = False) -> None:
        self._beat_now.set()
        if exited is None:
            return
        row = slot.snapshot()
        if crashed:
            self._storm.crashed(row.agent, row.slot)
        agent, _, instance = exited.name.partition("/")
        word = protocol.Exited(
            node=self._settings.node,
            agent=agent,
            instance=instance,
            crashed=crashed,
            reason=slot.reason[:1000],
        )
        self._tasks.create_task(self._say("exit", word))

    async def settled(self) -> None:
        await self._storm.over()


def agents_mark(project: Project) -> str:
    """The mark of agent processes; another than the project's, because the warm parent ends its own strays."""
    return f"{project.mark}-agents"


async def serve(settings: NodeSettings) -> int:
    """Connect, run until told to stop, drain. Returns the exit code."""
    from bus.buses.nats import connect

    stop = _Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.asked)  # first of all: as PID 1 nobody else handles them
    who = Credentials.load(Path(settings.credentials_file))
    keys = keys_of(Project(Path(settings.file)))
    async with asyncio.TaskGroup() as group:
        connecting = group.create_task(connect(settings.bus_url.split(","), who, deadline=CONNECT_SECONDS))
        stop.tell(connecting.cancel)
    if connecting.cancelled():
        return 0  # nothing to drain yet
    bus = connecting.result()
    node = Node(settings, bus, keys)
    stop.tell(node.stop)
    try:
        async with asyncio.TaskGroup() as group:
            pages = group.create_task(serve_pages(settings.pages, node))
            await node.run()
            pages.cancel()
    finally:
        await bus.drain(2.0)
    return 0


class _Stop:
    """Signals, for whoever is to hear of them now."""

    def __init__(self) -> None:
        self._hears: Callable[[], object] = lambda: None

    def tell(self, hears: Callable[[], object]) -> None:
        self._hears = hears

    def asked(self) -> None:
        self._hears()


def run_node(settings: NodeSettings) -> int:
    """`serve` as a process of its own; an error is a sentence in the log and an exit code."""
    configure_logging(settings.log_level, settings.node, settings.log_format)
    try:
        return asyncio.run(serve(settings))
    except BaseException as error:
        cause = _first(error)
        if not isinstance(cause, SwarmError | BusError):
            raise
        log.error("%s", cause)  # noqa: TRY400 - a sentence says it all
        return exit_code(cause)


def main(arguments: list[str]) -> int:
    configure_logging("INFO", "node")
    try:
        settings = _settings(arguments)
    except ConfigError as error:
        log.error("%s", error)  # noqa: TRY400 - a sentence says it all
        return exit_code(error)
    return run_node(settings)


def _settings(arguments: list[str]) -> NodeSettings:
    if len(arguments) != 1:
        raise ConfigError("Usage: python -m deploy.node SETTINGS.json")
    return read_settings(arguments[0])


def _first(error: BaseException) -> BaseException:
    """The first cause in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
