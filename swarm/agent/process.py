"""An agent process, from its spec to its exit code. The node forks it; `run` is its whole life.

Started: bus, store, plugins, services, then the subscription, then hello. Stopped, at SIGTERM: no new
work, drain to a deadline, plugins, services, store, goodbye, bus. A second SIGTERM hurries the drain.

    0 drained · 69 a dependency is down · 70 forced · 75 restart me · 78 bad configuration
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from bus.bus import Bus, Incoming
from bus.buses.nats import connect
from bus.credentials import Credentials
from bus.errors import BusError
from bus.subjects import Subjects
from swarm.agent.bell import BellRope
from swarm.agent.mailbox import Mailbox
from swarm.agent.presence import Presence
from swarm.agent.runtime import AgentRuntime
from swarm.agent.spec import AgentSpec
from swarm.character import load_character
from swarm.errors import CharacterError, PluginError, StoreDown, SwarmError
from swarm.store import Store
from swarm.telemetry import configure_logging

log = logging.getLogger(__name__)

DRAINED: Final = 0
DEPENDENCY_DOWN: Final = 69
FORCED: Final = 70
RESTART: Final = 75
BAD_CONFIGURATION: Final = 78


def run(packed: bytes) -> int:
    """The entry point of a forked child: an `AgentSpec` in MessagePack in, an exit code out."""
    spec = msgspec.msgpack.decode(packed, type=AgentSpec)
    configure_logging(spec.log_level, f"{spec.agent}/{spec.instance}")
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_live(spec))


async def _live(spec: AgentSpec) -> int:
    stop = _Stop()
    stop.listen()
    try:
        return await _serve(spec, stop)
    except Exception as error:
        errors = _leaves(error)
        for one in errors:
            expected = isinstance(one, (SwarmError, BusError))
            log.error("%s", one, exc_info=None if expected else one)  # noqa: TRY400
        return max(map(_exit_code, errors))


def _exit_code(error: BaseException) -> int:
    match error:
        case CharacterError() | PluginError():
            return BAD_CONFIGURATION
        case StoreDown() | BusError():
            return DEPENDENCY_DOWN
    return 1


async def _serve(spec: AgentSpec, stop: _Stop) -> int:
    source, folder = _where(spec)
    character = await load_character(source)
    bus = await connect(spec.bus_url, Credentials(name=spec.agent, jwt=spec.bus_jwt, seed=spec.bus_seed))
    runtime = AgentRuntime(
        character,
        adapter=_store(spec),
        settings=spec.settings,
        name=spec.agent,
        instance=spec.instance,
        folder=folder,
    )
    code = DRAINED
    try:
        async with asyncio.TaskGroup() as group:
            subjects = Subjects(spec.swarm)
            bell = BellRope(bus, subjects, spec.instance)
            runtime.peers.connect(bus, subjects, bell)
            await runtime.initialize()
            mailbox = Mailbox(
                runtime, bus, bell, group, rooms_at_once=spec.rooms_at_once, capacity=spec.capacity
            )
            presence = Presence(spec, bus, subjects, mailbox, runtime.metrics)

            def receive(incoming: Incoming) -> None:
                if incoming.envelope.kind == "control":
                    presence.receive_control(incoming)
                else:
                    mailbox.receive(incoming)

            await bus.subscribe(subjects.down(spec.agent, spec.instance), receive)
            await bus.subscribe(subjects.all, receive)
            owned = [group.create_task(bell.run()), group.create_task(presence.run())]
            await _until_stopped_or_deaf(bus, stop)
            if not stop.asked:
                log.error("the connection to the bus is closed for good; start me again")
                code = RESTART
            await presence.say_draining()
            drained = await _drain(mailbox, stop, spec.drain_seconds if stop.asked else 0.0)
            code = code or (DRAINED if drained else FORCED)
            for task in owned:
                task.cancel()
            await bell.ring()
            await presence.say_goodbye()
    finally:
        await runtime.stop()
        with suppress(BusError):
            await bus.drain(2.0)
    return code


async def _drain(mailbox: Mailbox, stop: _Stop, seconds: float) -> bool:
    """Drain to the deadline, or at once when hurried by a second signal."""
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(mailbox.drain(seconds))
        hurry = group.create_task(stop.hurry.wait())
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        if not draining.done():
            draining.cancel()
            with suppress(asyncio.CancelledError):
                await draining
            await mailbox.drain(0.0)
            hurry.cancel()
            return False
        hurry.cancel()
        return draining.result()


async def _until_stopped_or_deaf(bus: Bus, stop: _Stop) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(bus.wait_closed()), group.create_task(stop.term.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


class _Stop:
    """The signals: the first asks to drain, the second to hurry; the third kills as the system does."""

    def __init__(self) -> None:
        self.term = asyncio.Event()
        self.hurry = asyncio.Event()

    @property
    def asked(self) -> bool:
        return self.term.is_set()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)

    def _signalled(self) -> None:
        if not self.term.is_set():
            self.term.set()
            return
        self.hurry.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


def _where(spec: AgentSpec) -> tuple[str, Path | None]:
    """The character's source, and the agent's own folder if that is what it is."""
    if "://" in spec.source or spec.source.startswith(("env:", "agent:")):
        return spec.source, None
    path = Path(spec.project) / spec.source
    return str(path), path if path.is_dir() else None


def _store(spec: AgentSpec) -> Store | None:
    if not spec.store_url:
        return None
    from swarm.stores.postgres import PostgresStore

    return PostgresStore(spec.store_url, spec.swarm, spec.agent, spec.agent_id)


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
