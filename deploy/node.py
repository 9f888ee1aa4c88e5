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
from collections import deque
from pathlib import Path
from typing import Any, Final, cast

import msgspec

from bus.bus import Bus, Incoming
from bus.credentials import Authority, Credentials
from bus.envelope import read_body
from bus.errors import BusError, Disconnected
from bus.subjects import Subjects
from deploy.agent_settings import AgentSettings
from deploy.logins import Logins, said_by
from deploy.node_pages import serve_pages
from deploy.processes import end_strays
from deploy.slot import Slot
from deploy.zygote import Exited, Zygote, ZygoteFailed
from swarm import protocol
from swarm.agent.spec import AgentSpec
from swarm.errors import ConfigError, SwarmError, exit_code
from swarm.failpoints import reached
from swarm.project import Project
from swarm.protocol import BEAT_SECONDS, Assignment, NodeBeat, NodeInstance, Placement, RollCall
from swarm.telemetry import LogFormat, configure_logging

log = logging.getLogger(__name__)

STORM_SHARE: Final = 0.3
STORM_LEAST: Final = 4
"""Fewer crashing instances than this are their own trouble, not the machine's."""
STORM_SECONDS: Final = 10.0
CREDENTIAL_SECONDS: Final = None
"""How long an instance's bus credential is good; None: as long as the authority's keys."""


PRELOAD: Final = (
    "swarm.agent.process",
    "swarm.agent.rehearsal:rehearse",
    "swarm.stores.postgres",
    "swarm.character.loading",
    "nkeys",
    "uvloop",
    "concurrent.futures.thread",
    "encodings.utf_8_sig",
    "stringprep",
    "getpass",
    "termios",
)
"""What an agent imports by its first turn. Imported in the warm parent it costs the machine once, and each agent
nothing; whatever an agent imports by itself is its own memory and its own time."""


class NodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`file` is the project's swarm.toml. `store_host` is where the agents' database roles log in, as a URL
    without user. Times in seconds."""

    swarm: str
    file: str
    node: str = "node"
    bus_url: str
    store_url: str
    credentials_file: str
    log_level: str = "INFO"
    log_format: LogFormat = "text"
    rooms_at_once: int = 16
    capacity: int = 64
    drain_seconds: float = 25.0
    pages: str = ""
    """HOST:PORT of `/health`, `/ready` and `/metrics`; empty: none."""
    entry: str = "swarm.agent.process:run"
    preload: tuple[str, ...] = PRELOAD


class Node:
    """One node from its first hello to its end."""

    def __init__(self, settings: NodeSettings, bus: Bus, authority: Authority) -> None:
        self._settings = settings
        self._bus = bus
        self._authority = authority
        self._project = Project(Path(settings.file))
        self._agent_settings = AgentSettings(self._project.file)
        self._subjects = Subjects(settings.swarm)
        self._slots: dict[tuple[str, int], Slot] = {}
        self._tasks: asyncio.TaskGroup
        self._zygote: Zygote | None = None
        self._warm = asyncio.Event()
        self._gone: dict[str, asyncio.Future[Exited]] = {}
        self._beat_now = asyncio.Event()
        self._hello = True
        self._epoch = 0
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._logins = Logins(settings.node, settings.swarm, bus, self._project)
        self._crashes: deque[tuple[float, str, int]] = deque(maxlen=1000)
        self._storm = False

    # ── its life ──────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Serves until `stop`, then drains. Raises Disconnected when the bus is gone for good."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            keepers = [
                tasks.create_task(self._keep_warm()),
                tasks.create_task(self._say_beats()),
                tasks.create_task(self._mind_the_bus()),
            ]
            await self._bus.subscribe(self._subjects.node_down(self._settings.node), self._hear)
            await self._bus.subscribe(self._subjects.all, self._hear)
            await self._stopping.wait()
            log.info("draining %d instances", len(self._slots))
            for slot in self._slots.values():
                slot.want(None)
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
                    on_exit=self._on_exit,
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

    def _assign(self, assignment: Assignment) -> None:
        """Converge on what is assigned; an older coordinator's word is not heard."""
        if assignment.epoch < self._epoch or self._stopping.is_set():
            return
        self._epoch = assignment.epoch
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
        instances = tuple(slot.snapshot() for slot in self._slots.values())
        await self._say(verb, NodeBeat(node=self._settings.node, pid=os.getpid(), instances=instances))

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
        if placement.heritage:
            await self._logins.ensure(placement)
        name = f"{placement.agent}/{instance}"
        gone: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
        self._gone[name] = gone
        try:
            pid = await zygote.fork(
                self._settings.entry,
                msgspec.msgpack.encode(self._spec(placement, instance)),
                name=name,
                log_file=log_file,
            )
        except BaseException:
            self._gone.pop(name, None)
            raise
        reached("node.forked")
        return pid, gone

    def _spec(self, placement: Placement, instance: str) -> AgentSpec:
        from swarm.stores.postgres import agent_url

        settings = self._settings
        who = self._authority.mint("agent", placement.agent, CREDENTIAL_SECONDS)
        password = self._project.agent_password(settings.swarm, placement.agent)
        return AgentSpec(
            swarm=settings.swarm,
            agent=placement.agent,
            agent_id=placement.agent_id,
            instance=instance,
            source=placement.source,
            project=str(self._project.folder),
            bus_url=settings.bus_url,
            bus_jwt=who.jwt,
            bus_seed=who.seed,
            store_url=agent_url(settings.store_url, settings.swarm, placement.agent_id, password),
            node=settings.node,
            version=placement.version,
            log_level=settings.log_level,
            log_format=settings.log_format,
            rooms_at_once=settings.rooms_at_once,
            capacity=settings.capacity,
            drain_seconds=max(1.0, settings.drain_seconds - 2.0),
            settings=self._settings_of(placement),
            heritage=placement.heritage,
            secrets=placement.secrets,
        )

    def _settings_of(self, placement: Placement) -> dict[str, Any]:
        if not placement.heritage:
            return self._agent_settings.of(placement.agent)
        names = set(placement.secrets).intersection(*(one.secrets for one in placement.heritage[1:]))
        return self._agent_settings.handed_down(placement.heritage[0].agent, names)

    def _on_exit(self, exited: Exited) -> None:
        gone = self._gone.pop(exited.name, None)
        if gone is not None and not gone.done():
            gone.set_result(exited)

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        if self._zygote is not None:
            self._zygote.signal(pid, number, group=group)

    def changed(self, slot: Slot, exited: Exited | None = None, crashed: bool = False) -> None:
        self._beat_now.set()
        if exited is None:
            return
        row = slot.snapshot()
        if crashed:
            self._crashes.append((time.monotonic(), row.agent, row.slot))
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
        """While over 30 % of the instances crash, restarting them all again only heats the machine: wait until the
        bus is there and the crashes are over, and say so once."""
        while self._in_storm():
            if not self._storm:
                self._storm = True
                log.error(
                    "over 30 %% of the instances crash; restarts wait (the bus is %s)",
                    "reachable" if self._bus.connected else "not reachable",
                )
            await asyncio.sleep(1.0)
        self._storm = False

    def _in_storm(self) -> bool:
        since = time.monotonic() - STORM_SECONDS
        crashing = {(agent, slot) for moment, agent, slot in self._crashes if moment > since}
        return len(crashing) >= STORM_LEAST and len(crashing) > STORM_SHARE * len(self._slots)


def agents_mark(project: Project) -> str:
    """The mark of agent processes; another than the project's, because the warm parent ends its own strays."""
    return f"{project.mark}-agents"


async def serve(settings: NodeSettings) -> int:
    """Connect, run until told to stop, drain. Returns the exit code."""
    from bus.buses.nats import connect

    project = Project(Path(settings.file))
    authority = Authority.load(project.authority_file)
    bus = await connect(settings.bus_url, Credentials.load(Path(settings.credentials_file)), deadline=30.0)
    node = Node(settings, bus, authority)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, node.stop)
    try:
        async with asyncio.TaskGroup() as group:
            pages = group.create_task(serve_pages(settings.pages, node))
            await node.run()
            pages.cancel()
    finally:
        await bus.drain(2.0)
    return 0


def main(arguments: list[str]) -> int:
    configure_logging("INFO", "node")
    try:
        return asyncio.run(serve(_settings(arguments)))
    except BaseException as error:
        cause = _first(error)
        if not isinstance(cause, SwarmError | BusError):
            raise
        log.error("%s", cause)  # noqa: TRY400 - a sentence says it all
        return exit_code(cause)


def _settings(arguments: list[str]) -> NodeSettings:
    if len(arguments) != 1:
        raise ConfigError("Usage: python -m deploy.node SETTINGS.json")
    try:
        settings = msgspec.json.decode(Path(arguments[0]).read_bytes(), type=NodeSettings)
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigError(f"The node's settings at {arguments[0]} cannot be read: {error}.") from error
    configure_logging(settings.log_level, settings.node, settings.log_format)
    return settings


def _first(error: BaseException) -> BaseException:
    """The first cause in a group of errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
