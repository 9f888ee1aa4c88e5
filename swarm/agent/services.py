"""The services of an agent: one registry, started in the order of their dependencies, stopped in reverse.

The status is set here, around `start` and `stop`, so that a service cannot forget it (E1 to E7). A service
that has a `run` is kept running (E8): when it raises, the service and what depends on it are restarted
after 0.5 s, doubling to 30 s; CRASHES of them within CRASH_WINDOW and it is given up, as ERROR.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from bus.errors import BusError
from swarm.agent.bounded import TookTooLong, bounded
from swarm.agent.breaker import Sleep
from swarm.agent.storable import describe
from swarm.components import Service, ServiceStatus
from swarm.errors import PluginError, StoreDown, near

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
CRASHES: Final = 8
CRASH_WINDOW: Final = 300.0
FIRST_WAIT: Final = 0.5
LONGEST_WAIT: Final = 30.0
_ON_DISK: Final = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
"""What no waiting mends."""


class ServiceFailed(PluginError):
    """A service that the agent needs cannot be made or started; `plugin` is whose it is, or empty."""

    def __init__(self, text: str, plugin: str) -> None:
        super().__init__(text)
        self.plugin = plugin

    @property
    def is_away(self) -> bool:
        """Whether what it connects to may only be away, so that another start may do."""
        cause = self.__cause__
        return isinstance(cause, (OSError, TookTooLong, BusError, StoreDown)) and not isinstance(
            cause, _ON_DISK
        )


class Services:
    def __init__(self, runtime: AgentRuntime, *, clock: Callable[[], float], sleep: Sleep) -> None:
        self._runtime = runtime
        self._clock = clock
        self._sleep = sleep
        self._kinds: dict[str, type[Service]] = {}
        self._owners: dict[str, str] = {}
        self._by_type: dict[str, list[Service]] = {}
        self._started: list[str] = []
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._crashes: defaultdict[str, deque[float]] = defaultdict(lambda: deque(maxlen=CRASHES))
        self._changing = asyncio.Lock()

    @property
    def by_type(self) -> Mapping[str, list[Service]]:
        """Service type → its instances (B1: a list). A read-only view."""
        return MappingProxyType(self._by_type)

    def register(self, kind: type[Service], plugin: str = "") -> Service:
        """The service of this class's type: a new one, or the one that is there already (B9)."""
        existing = self._by_type.get(kind.service_type)
        if existing:
            return existing[0]
        service = self._make(kind, plugin)
        self._kinds[kind.service_type] = kind
        self._owners[kind.service_type] = plugin
        self._by_type[kind.service_type] = [service]
        return service

    def get(self, service_type: str) -> Service | None:
        found = self._by_type.get(service_type)
        return found[0] if found else None

    def of(self, plugin: str) -> list[str]:
        """The types of the services that this plugin brought."""
        return [service_type for service_type, owner in self._owners.items() if owner == plugin]

    async def start_all(self) -> None:
        """In the order of dependencies, those that have not been started. A required service that fails raises
        ServiceFailed, and those that were started run on; an optional one is logged and stands as ERROR."""
        async with self._changing:
            for service_type in self._order():
                if self._by_type[service_type][0].status is ServiceStatus.STOPPED:
                    await self._start(service_type)

    async def start_late(self, service_types: Iterable[str]) -> None:
        """Start those of a plugin that came when the agent was live, in the order of dependencies."""
        wanted = _names(service_types)
        async with self._changing:
            for service_type in self._order():
                if service_type in wanted:
                    await self._start(service_type)

    async def withdraw(self, service_types: Iterable[str]) -> None:
        """Stop and forget them, in reverse."""
        leaving = [*service_types]
        for service_type in leaving:  # before the lock, for which its keeper may wait
            await self._end_keeper(service_type)
        async with self._changing:
            for service_type in reversed(leaving):
                if service_type in self._started:
                    await self._stop(service_type)
                    self._started.remove(service_type)
                self._by_type.pop(service_type, None)
                self._kinds.pop(service_type, None)
                self._owners.pop(service_type, None)

    async def stop_all(self) -> None:
        """In reverse order, each bounded; a failing stop does not keep the rest from stopping."""
        for service_type in tuple(self._keepers):  # before the lock, for which one of them may wait
            await self._end_keeper(service_type)
        async with self._changing:
            for service_type in reversed(self._started):
                await self._stop(service_type)
            self._started.clear()
            self._by_type.clear()

    async def restart(self, service_type: str) -> Service:
        """Stop, make anew, start; what depends on it is restarted too. A failed start leaves ERROR."""
        async with self._changing:
            if service_type not in self._kinds:
                raise PluginError(
                    f"There is no service {service_type!r}{near(service_type, self._kinds)} "
                    f"Registered are: {', '.join(self._kinds) or 'none'}."
                )
            affected = self._dependents(service_type)
            for name in reversed(affected):
                await self._stop(name)
                self._started = [one for one in self._started if one != name]
            for place, name in enumerate(affected):
                try:
                    self._by_type[name] = [self._make(self._kinds[name], self._owners[name])]
                    await self._start(name)
                except ServiceFailed as failure:
                    for down in affected[place:]:  # the failed one, and what would stand on it
                        why = str(failure) if down == name else f"the service {name!r} did not start"
                        await self._set(self._by_type[down][0], ServiceStatus.ERROR, why)
                    raise
            return self._by_type[service_type][0]

    def _make(self, kind: type[Service], plugin: str) -> Service:
        try:
            return kind(self._runtime)
        except (Exception, SystemExit) as error:
            raise ServiceFailed(
                f"{_whose(plugin)} service {kind.service_type!r} cannot be made: {describe(error).rstrip('.')}.",
                plugin,
            ) from error

    async def _start(self, service_type: str) -> None:
        service = self._by_type[service_type][0]
        await self._set(service, ServiceStatus.STARTING)
        try:
            await bounded(service.start(), START_SECONDS)
        except Exception as error:
            sentence = (
                f"it did not start within {START_SECONDS:g} s"
                if isinstance(error, TookTooLong)
                else describe(error).rstrip(".")
            )
            await self._set(service, ServiceStatus.ERROR, sentence)
            owner = self._owners[service_type]
            if type(service).required:
                raise ServiceFailed(
                    f"{_whose(owner)} service {service_type!r} failed to start: {sentence}. Repair it, or "
                    "give its class `required = False` if the agent can do without it.",
                    owner,
                ) from error
            log.warning(
                "the optional service %s (plugin %s) failed to start: %s",
                service_type,
                owner or "none",
                sentence,
            )
            return
        self._started.append(service_type)
        await self._set(service, ServiceStatus.RUNNING)
        self._keep_running(service)

    # ── kept running (E8) ─────────────────────────────────────────────────────────────────────────
    def _keep_running(self, service: Service) -> None:
        """Owned here: `_end_keeper` ends it before its service stops."""
        if type(service).run is not Service.run:
            task = asyncio.get_running_loop().create_task(self._keep(service))
            self._keepers[service.service_type] = task

    async def _keep(self, service: Service) -> None:
        """Until `run` returns, or the service is restarted (its successor has a keeper of its own), or it
        is given up."""
        try:
            await bounded(service.run(), None)
            return
        except Exception as error:
            owner = self._owners.get(service.service_type)
            log.warning(
                "the service %s (plugin %s) crashed", service.service_type, owner or "none", exc_info=True
            )
            reason = describe(error)
        service_type = service.service_type
        while await self._may_restart(service_type, reason):
            try:
                await self.restart(service_type)
            except PluginError as error:
                reason = str(error)
            else:
                if self._by_type[service_type][0].status is ServiceStatus.RUNNING:
                    return
                reason = "it did not start again"

    async def _may_restart(self, service_type: str, reason: str) -> bool:
        """Count the crash and wait; False when it was one too many."""
        crashes, now = self._crashes[service_type], self._clock()
        crashes.append(now)
        recent = sum(now - at <= CRASH_WINDOW for at in crashes)
        self._runtime.metrics.count_failure("service", service_type)
        await self._set(self._by_type[service_type][0], ServiceStatus.ERROR, reason)
        if recent >= CRASHES:
            log.error(
                "the service %s crashed %d times within %g s and is given up: %s",
                service_type, recent, CRASH_WINDOW, reason,
            )  # fmt: skip
            return False
        await self._sleep(min(FIRST_WAIT * 2 ** (recent - 1), LONGEST_WAIT))
        return True

    async def _end_keeper(self, service_type: str) -> None:
        keeper = self._keepers.get(service_type)
        if keeper is None or keeper is asyncio.current_task():
            return  # it restarts its own service, and ends itself when that runs
        keeper.cancel()
        await asyncio.wait((keeper,), timeout=STOP_SECONDS)
        if not keeper.done():
            log.warning("the service %s does not end when it is cancelled", service_type)
        self._keepers.pop(service_type, None)

    async def _stop(self, service_type: str) -> None:
        await self._end_keeper(service_type)
        service = self._by_type[service_type][0]
        await self._set(service, ServiceStatus.STOPPING)
        try:
            await bounded(service.stop(), STOP_SECONDS)
        except Exception as error:
            late = isinstance(error, TookTooLong)
            sentence = f"it did not stop within {STOP_SECONDS:g} s" if late else describe(error)
            owner = self._owners.get(service_type)
            log.warning(
                "the service %s (plugin %s) did not stop well: %s", service_type, owner or "none", sentence
            )
            await self._set(service, ServiceStatus.ERROR, sentence)
            return
        await self._set(service, ServiceStatus.STOPPED)

    async def _set(self, service: Service, status: ServiceStatus, error: str = "") -> None:
        service.status = status
        await self._runtime.events.emit(
            "service:status", service=service.service_type, status=str(status), error=error
        )

    def _order(self) -> list[str]:
        ordered: list[str] = []
        path: list[str] = []

        def visit(service_type: str, wanted_by: str) -> None:
            if service_type in ordered:
                return
            if service_type not in self._kinds:
                owner = self._owners.get(wanted_by, "")
                raise ServiceFailed(
                    f"{_whose(owner)} service {wanted_by!r} depends on {service_type!r}, which is not registered"
                    f"{near(service_type, self._kinds)} Add the plugin that brings it, or take the dependency away.",
                    owner,
                )
            if service_type in path:
                circle = " → ".join([*path[path.index(service_type) :], service_type])
                raise ServiceFailed(
                    f"Services depend on each other in a circle: {circle}. Take one of these dependencies away.",
                    self._owners.get(service_type, ""),
                )
            path.append(service_type)
            for need in self._kinds[service_type].dependencies:
                visit(need, service_type)
            path.pop()
            ordered.append(service_type)

        for service_type in self._kinds:
            visit(service_type, "")
        return ordered

    def _dependents(self, service_type: str) -> list[str]:
        """The service and all that stand on it, in starting order."""
        affected = {service_type}
        order = self._order()
        for name in order:
            if affected.intersection(_names(self._kinds[name].dependencies)):
                affected.add(name)
        return [name for name in order if name in affected]


def _whose(plugin: str) -> str:
    """How a sentence about a service begins."""
    return f"Plugin {plugin}: the" if plugin else "The"


def _names(given: Iterable[str]) -> set[str]:
    return set(given)
