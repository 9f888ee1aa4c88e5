"""A plugin comes in whole or not at all, and goes out the same way (P4, P7 to P9)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from swarm.agent.services import Services
from swarm.components import call_handler
from swarm.errors import PluginError, UsageError
from swarm.plugin import Plugin

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

HOOK_START_SECONDS: Final = 30.0
HOOK_STOP_SECONDS: Final = 10.0


class Registrar:
    """Registers with the runtime's registries. `live` once the services run: from then on a plugin that
    comes is started at once."""

    def __init__(self, runtime: AgentRuntime, services: Services) -> None:
        self._runtime = runtime
        self._services = services
        self._begun: list[Plugin] = []
        self._unsubscribe: dict[str, list[Callable[[], None]]] = {}
        self.live = False
        self._log = logging.getLogger(f"{__name__}.{runtime.name}")

    async def register(self, plugin: Plugin) -> None:
        """All of it or, raising PluginError, nothing. In a live agent its services and its `start` run
        before anybody can see its actions."""
        runtime, registry = self._runtime, self._runtime.registry
        registry.check(plugin)
        for event in plugin.events:
            try:
                runtime.events.check(event)
            except UsageError as error:
                raise PluginError(f"Plugin {plugin.name}: {error}") from error
        await self._start_call(plugin, "init", {"config": plugin.config, "runtime": runtime})
        mine = [kind for kind in plugin.services if self._services.get(kind.service_type) is None]
        try:
            for kind in plugin.services:
                self._services.register(kind)
            if self.live:
                await self._services.start_late([kind.service_type for kind in mine])
                await self.start(plugin)
        except BaseException as error:
            await self._services.withdraw([kind.service_type for kind in mine])
            if isinstance(error, Exception) and not isinstance(error, PluginError):
                raise PluginError(
                    f"Plugin {plugin.name}: a service cannot be made: {type(error).__name__}: {error}."
                ) from error
            raise
        registry.add_plugin(plugin)
        for model in plugin.models:
            runtime.models.register(model.type, model.handler, model.provider, model.priority)
        self._unsubscribe[plugin.name] = [
            runtime.events.on(event, listener)
            for event, listeners in plugin.events.items()
            for listener in listeners
        ]
        await runtime.events.emit("plugin:registered", plugin=plugin.name)

    async def withdraw(self, plugin: Plugin) -> None:
        """Take back all that a plugin brought."""
        runtime = self._runtime
        runtime.registry.remove_plugin(plugin.name)
        await self._services.withdraw([kind.service_type for kind in plugin.services])
        for model in plugin.models:
            runtime.models.unregister(model.type, model.handler)
        for unsubscribe in self._unsubscribe.pop(plugin.name, ()):
            unsubscribe()

    async def start(self, plugin: Plugin) -> None:
        """Its `start` hook. One that fails is stopped, for what it had begun."""
        self._begun.append(plugin)
        try:
            await self._start_call(plugin, "start", {"runtime": self._runtime})
        except BaseException:
            self._begun.remove(plugin)
            await self._stop_hook(plugin)
            raise

    async def _start_call(self, plugin: Plugin, name: str, given: Mapping[str, object]) -> None:
        handler = getattr(plugin, name)
        if handler is None:
            return
        try:
            async with asyncio.timeout(HOOK_START_SECONDS):
                await call_handler(handler, given)
        except TimeoutError as error:
            raise PluginError(
                f"Plugin {plugin.name}: {name} did not end within {HOOK_START_SECONDS:g} s."
            ) from error
        except Exception as error:
            raise PluginError(
                f"Plugin {plugin.name}: {name} failed: {type(error).__name__}: {error}."
            ) from error

    async def _stop_hook(self, plugin: Plugin) -> None:
        if plugin.stop is None:
            return
        try:
            async with asyncio.timeout(HOOK_STOP_SECONDS):
                await call_handler(plugin.stop, {"runtime": self._runtime})
        except Exception as error:
            self._log.warning("plugin %s: stop failed: %s: %s", plugin.name, type(error).__name__, error)

    async def end(self) -> None:
        """The plugins' `stop`, in reverse; each bounded, none keeps the rest from stopping (P9)."""
        self.live = False
        for plugin in reversed(self._begun):
            await self._stop_hook(plugin)
        self._begun.clear()
