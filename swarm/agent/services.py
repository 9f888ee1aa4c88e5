"""The services of an agent: one registry, started in the order of their dependencies, stopped in reverse.

The status is set here, around `start` and `stop`, so that a service cannot forget it (E1 to E7).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from swarm.components import Service, ServiceStatus
from swarm.errors import PluginError, near

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0


class Services:
    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._kinds: dict[str, type[Service]] = {}
        self._by_type: dict[str, list[Service]] = {}
        self._started: list[str] = []
        self._changing = asyncio.Lock()

    @property
    def by_type(self) -> Mapping[str, list[Service]]:
        """Service type → its instances (B1: a list). A read-only view."""
        return MappingProxyType(self._by_type)

    def register(self, kind: type[Service]) -> Service:
        """The service of this class's type: a new one, or the one that is there already (B9)."""
        existing = self._by_type.get(kind.service_type)
        if existing:
            return existing[0]
        service = kind(self._runtime)
        self._kinds[kind.service_type] = kind
        self._by_type[kind.service_type] = [service]
        return service

    def get(self, service_type: str) -> Service | None:
        found = self._by_type.get(service_type)
        return found[0] if found else None

    async def start_all(self) -> None:
        """In the order of dependencies. A required service that fails stops what was started, in reverse,
        and raises; an optional one is logged and stands as ERROR."""
        async with self._changing:
            for service_type in self._order():
                await self._start(service_type)

    async def stop_all(self) -> None:
        """In reverse order, each bounded; a failing stop does not keep the rest from stopping."""
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
            for name in affected:
                self._by_type[name] = [self._kinds[name](self._runtime)]
                await self._start(name)
            return self._by_type[service_type][0]

    async def _start(self, service_type: str) -> None:
        service = self._by_type[service_type][0]
        await self._set(service, ServiceStatus.STARTING)
        try:
            async with asyncio.timeout(START_SECONDS):
                await service.start()
        except Exception as error:
            sentence = (
                f"it did not start within {START_SECONDS:g} s"
                if isinstance(error, TimeoutError)
                else f"{type(error).__name__}: {error}"
            )
            await self._set(service, ServiceStatus.ERROR, sentence)
            if type(service).required:
                raise PluginError(f"The service {service_type!r} failed to start: {sentence}.") from error
            log.warning("the optional service %s failed to start: %s", service_type, sentence)
            return
        self._started.append(service_type)
        await self._set(service, ServiceStatus.RUNNING)

    async def _stop(self, service_type: str) -> None:
        service = self._by_type[service_type][0]
        await self._set(service, ServiceStatus.STOPPING)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await service.stop()
        except Exception as error:
            log.warning("the service %s did not stop well: %s: %s", service_type, type(error).__name__, error)
            await self._set(service, ServiceStatus.ERROR, str(error) or type(error).__name__)
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
                raise PluginError(
                    f"The service {wanted_by!r} depends on {service_type!r}, which is not registered"
                    f"{near(service_type, self._kinds)}"
                )
            if service_type in path:
                circle = " → ".join([*path[path.index(service_type) :], service_type])
                raise PluginError(f"Services depend on each other in a circle: {circle}.")
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


def _names(given: Iterable[str]) -> set[str]:
    return set(given)
