"""A plugin comes in whole or not at all, and goes out the same way (P4, P7 to P9)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from swarm.agent.bounded import TookTooLong, call_bounded
from swarm.agent.services import Services
from swarm.agent.storable import describe
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
                self._services.register(kind, plugin.name)
            if self.live:
                await self._services.start_late([kind.service_type for kind in mine])
                await self.start(plugin)
        except BaseException:
            await self._services.withdraw([kind.service_type for kind in mine])
            raise
        registry.add_plugin(plugin)
        for model in plugin.models:
            runtime.models.register(model.type, model.handler, model.provider, model.priority)
        self._unsubscribe[plugin.name] = [
            runtime.events.on(event, listener, plugin=plugin.name)
            for event, listeners in plugin.events.items()
            for listener in listeners
        ]
        await runtime.events.emit("plugin:registered", plugin=plugin.name)

    async def withdraw(self, plugin: Plugin) -> None:
        """Take back all that a plugin brought."""
        runtime = self._runtime
        runtime.registry.remove_plugin(plugin.name)
        await self._services.withdraw(self._services.of(plugin.name))
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
            await call_bounded(handler, given, HOOK_START_SECONDS)
        except TookTooLong as error:
            raise PluginError(
                f"Plugin {plugin.name}: {name} did not end within {HOOK_START_SECONDS:g} s."
            ) from error
        except Exception as error:
            raise PluginError(
                f"Plugin {plugin.name}: {name} failed: {describe(error).rstrip('.')}."
            ) from error

    async def _stop_hook(self, plugin: Plugin) -> None:
        if plugin.stop is None:
            return
        try:
            await call_bounded(plugin.stop, {"runtime": self._runtime}, HOOK_STOP_SECONDS)
        except TookTooLong:
            self._log.warning("plugin %s: stop did not end within %g s", plugin.name, HOOK_STOP_SECONDS)
        except Exception as error:
            self._log.warning("plugin %s: stop failed: %s", plugin.name, describe(error))

    async def end(self) -> None:
        """The plugins' `stop`, in reverse; each bounded, none keeps the rest from stopping (P9)."""
        self.live = False
        for plugin in reversed(self._begun):
            await self._stop_hook(plugin)
        self._begun.clear()
