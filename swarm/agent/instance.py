"""An instance: one runtime behind its mailbox, present on the bus, from hello to goodbye.

`process.py` makes one in a process of its own; tests make several on a bus in memory.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import Final, cast

from bus.bus import Bus, Incoming
from bus.envelope import read_body
from bus.errors import BadMessage
from bus.subjects import Subjects
from swarm.agent.bell import BellRope
from swarm.agent.diagnosis import answer_probe
from swarm.agent.mailbox import Mailbox
from swarm.agent.presence import Presence
from swarm.agent.pushing import pushing, resource_of
from swarm.agent.runtime import AgentRuntime
from swarm.agent.spec import AgentSpec
from swarm.protocol import Cancel, Probe, RollCall
from swarm.tracing.exporting import tracer_of, tracing

log = logging.getLogger(__name__)

DRAINED: Final = 0
DEPENDENCY_DOWN: Final = 69
FORCED: Final = 70
RESTART: Final = 75
BAD_CONFIGURATION: Final = 78


class Stop:
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


class Instance:
    """Neither bus nor runtime is owned: whoever made them ends them. `ready` is set at the welcome,
    `mailbox` when the agent is initialised."""

    def __init__(self, spec: AgentSpec, runtime: AgentRuntime, bus: Bus) -> None:
        self._spec = spec
        self._runtime = runtime
        self._bus = bus
        self.ready = asyncio.Event()
        self.mailbox: Mailbox | None = None

    async def run(self, stop: Stop) -> int:
        """Initialise, serve until stopped or deaf, drain. Returns the exit code."""
        spec, bus, subjects = self._spec, self._bus, Subjects(self._spec.swarm)
        async with asyncio.TaskGroup() as group:
            bell = BellRope(bus, subjects, spec.instance)
            traces = tracing(self._runtime.get_setting, resource_of(self._runtime, spec.swarm))
            self._runtime.trace_with(tracer_of(traces))
            self._runtime.peers.connect(bus, subjects, bell)
            await self._runtime.initialize()
            mailbox = Mailbox(
                self._runtime, bus, bell, group, rooms_at_once=spec.rooms_at_once, capacity=spec.capacity
            )
            self.mailbox = mailbox
            presence = Presence(spec, bus, subjects, mailbox, self._runtime.metrics)

            def receive(incoming: Incoming) -> None:
                if incoming.envelope.kind != "control":
                    mailbox.receive(incoming)
                    return
                match _control(incoming):
                    case RollCall():
                        presence.roll_call()
                    case Cancel(deliveries, reason):
                        mailbox.cancel(deliveries, reason)
                    case Probe():
                        group.create_task(answer_probe(self._runtime, mailbox, bus, incoming))

            # Listening comes before hello: the backlog is dispatched at once.
            await bus.subscribe(subjects.down(spec.agent, spec.instance), receive)
            await bus.subscribe(subjects.all, receive)
            owned = [group.create_task(bell.run()), group.create_task(presence.run(self.ready))]
            push = pushing(self._runtime, mailbox, swarm=spec.swarm)
            if push is not None:
                owned.append(group.create_task(push.run()))
            if traces is not None:
                owned.append(group.create_task(traces.run()))
            await _until_stopped_or_deaf(bus, stop)
            if not stop.asked:
                log.error("the connection to the bus is closed for good; start me again")
            await presence.say_draining()
            drained = await drain(mailbox, stop, spec.drain_seconds if stop.asked else 0.0)
            for task in owned:
                task.cancel()
            await bell.ring()
            await presence.say_goodbye()
            if push is not None and not stop.hurry.is_set():
                await push.last()
            if traces is not None and not stop.hurry.is_set():
                await traces.last()
        if not stop.asked:
            return RESTART
        return DRAINED if drained else FORCED


def _control(incoming: Incoming) -> RollCall | Cancel | Probe | None:
    """What the coordinator says to everyone, or to this instance about itself; None for what is neither."""
    said = cast("type[RollCall | Cancel | Probe]", RollCall | Cancel | Probe)
    try:
        return read_body(incoming.envelope, said)
    except BadMessage as error:
        log.debug("ignored: %s", error)
        return None


async def drain(mailbox: Mailbox, stop: Stop, seconds: float) -> bool:
    """Drain to the deadline, or at once when hurried by a second signal."""
    async with asyncio.TaskGroup() as group:
        draining = group.create_task(mailbox.drain(seconds))
        hurry = group.create_task(stop.hurry.wait())
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if draining.done():
            return draining.result()
        draining.cancel()
        with suppress(asyncio.CancelledError):
            await draining
    await mailbox.drain(0.0)
    return False


async def _until_stopped_or_deaf(bus: Bus, stop: Stop) -> None:
    async with asyncio.TaskGroup() as group:
        waits = [group.create_task(bus.wait_closed()), group.create_task(stop.term.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
