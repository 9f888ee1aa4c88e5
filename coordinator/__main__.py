"""`python -m coordinator SETTINGS.json` (or SWARM_COORDINATOR_SETTINGS): one coordinator until SIGTERM.

Exit codes: 0 drained · 69 bus or store cannot be reached at the start · 70 forced by a second signal ·
75 start me again (the bus ended for good, or something unforeseen) · 78 bad settings or credentials.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from bus.bus import Bus
from bus.errors import Disconnected, Refused
from coordinator.settings import SETTINGS_VARIABLE, CoordinatorSettings, load_settings
from swarm.errors import ConfigError, StoreDown, StoreError
from swarm.ledger import Ledger
from swarm.telemetry import configure_logging

if TYPE_CHECKING:
    from coordinator.families import CoordinatorFamilies

log = logging.getLogger("coordinator")

DRAINED, DEPENDENCY_DOWN, FORCED, START_AGAIN, BAD_SETTINGS = 0, 69, 70, 75, 78


class Signals:
    """SIGTERM and SIGINT from the first line on: one asks, two insist. As PID 1 nobody else handles them."""

    def __init__(self) -> None:
        self.count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._received)

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def wait_for(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        while self.count < count:
            self._changed.clear()
            if self.count < count:
                await self._changed.wait()


def main(arguments: Sequence[str] | None = None) -> int:
    signals = Signals()
    given = list(sys.argv[1:] if arguments is None else arguments)
    path = given[0] if given else os.environ.get(SETTINGS_VARIABLE, "")
    try:
        if not path:
            raise ConfigError(f"Give the path of the coordinator's settings, or set {SETTINGS_VARIABLE}.")
        settings = load_settings(path)
    except ConfigError as error:
        print(f"coordinator: {error}", file=sys.stderr)
        return BAD_SETTINGS
    configure_logging(settings.log_level, "coordinator", settings.log_format)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(settings, signals))


class _EndNow(Exception):
    """Ends the process with this exit code, whatever it is doing."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


async def _run(settings: CoordinatorSettings, signals: Signals) -> int:
    stopping = asyncio.Event()
    started = asyncio.Event()

    async def obey() -> None:
        await signals.wait_for(1)
        stopping.set()
        if not started.is_set():
            raise _EndNow(DRAINED)  # nothing to drain yet
        log.info("The coordinator drains.")
        await signals.wait_for(2)
        raise _EndNow(FORCED)

    try:
        async with asyncio.TaskGroup() as group:
            obeying = group.create_task(obey())
            code = await _serve(settings, stopping, started)
            obeying.cancel()
        return code
    except BaseExceptionGroup as errors:
        error = _leaf(errors)
        if isinstance(error, _EndNow):
            return error.code
        if isinstance(error, Disconnected):
            log.warning("The coordinator ends: %s", error)
        else:
            log.exception("The coordinator ends on something unforeseen; it should be started again.")
        return START_AGAIN


async def _serve(settings: CoordinatorSettings, stopping: asyncio.Event, started: asyncio.Event) -> int:
    from coordinator.families import CoordinatorFamilies
    from coordinator.pushing import coordinator_push
    from coordinator.service import Coordinator
    from swarm.records import COORDINATOR
    from swarm.telemetry import telemetry_settings
    from swarm.tracing.exporting import tracer_of, tracing

    try:
        bus = await _connect(settings)
    except (Refused, ConfigError) as error:
        log.critical("The coordinator cannot start: %s", error)
        return BAD_SETTINGS
    except Disconnected as error:
        log.critical("The coordinator cannot start: %s", error)
        return DEPENDENCY_DOWN
    ledger: Ledger | None = None
    try:
        ledger = _open_ledger(settings)
        if not await _reachable(ledger, settings.dependency_seconds):
            return DEPENDENCY_DOWN
        started.set()
        telemetry = {**telemetry_settings(os.environ), **settings.telemetry}
        traces = tracing(telemetry.get, {"service.name": COORDINATOR, "service.namespace": settings.swarm})
        coordinator = Coordinator(bus, ledger, settings, stopping=stopping, tracer=tracer_of(traces))
        async with asyncio.TaskGroup() as group:
            families = CoordinatorFamilies(ledger, coordinator.metrics, lambda: coordinator.term)
            push = coordinator_push(telemetry.get, settings.swarm, families, coordinator)
            beside = [group.create_task(_pages(settings.pages, families, bus, ledger))]
            beside += [group.create_task(sending.run()) for sending in (push, traces) if sending is not None]
            await coordinator.run()
            for task in beside:
                task.cancel()
        for sending in (push, traces):
            if sending is not None:
                await sending.last()
        return DRAINED
    finally:
        await bus.drain(settings.drain_seconds)
        if ledger is not None:
            await ledger.close()


async def _pages(address: str, families: CoordinatorFamilies, bus: Bus, ledger: Ledger) -> None:
    """`/health`, `/ready` and `/metrics`, if there is an address for them. A standby is ready: it can take over."""
    if not address:
        return
    from swarm.metrics.pages import Pages

    async def ready() -> list[str]:
        reasons = [] if bus.connected else ["The bus cannot be reached."]
        try:
            await ledger.ping()
        except StoreError as error:
            reasons.append(f"The store cannot be reached: {error}")
        return reasons

    await Pages(address, ready, families.read).run()


async def _connect(settings: CoordinatorSettings) -> Bus:
    """Raises Refused or ConfigError for bad credentials, Disconnected when nobody answers in time."""
    from bus.buses.nats import connect
    from bus.credentials import Credentials
    from swarm.records import COORDINATOR

    if settings.credentials:
        who: Credentials | str = Credentials.from_text(settings.credentials)
    elif settings.credentials_file:
        try:
            who = Credentials.load(Path(settings.credentials_file))
        except OSError as error:
            raise ConfigError(
                f"The credentials at {settings.credentials_file} cannot be read ({error.strerror})."
            ) from error
    else:
        who = COORDINATOR
    return await connect(settings.bus_url.split(","), who, deadline=settings.dependency_seconds)


def _open_ledger(settings: CoordinatorSettings) -> Ledger:
    from swarm.stores.postgres import PostgresLedger

    return PostgresLedger(settings.store_url, settings.swarm)


async def _reachable(ledger: Ledger, seconds: float) -> bool:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        try:
            await ledger.ping()
        except StoreDown as error:
            if loop.time() >= deadline:
                log.critical("The store cannot be reached: %s", error)
                return False
            await asyncio.sleep(0.25)
        else:
            return True


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        from uvloop import Loop
    except ImportError:
        return None
    return Loop


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    raise SystemExit(main())
