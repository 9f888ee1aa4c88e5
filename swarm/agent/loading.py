"""The plugins of one agent: which load at start, which on first use, and what happens to a broken one.

    load = "eager"   every plugin at start, and what a first message would find cold is warm (G4, warming.py)
    load = "lazy"    a plugin with a manifest on the first use of one of its actions; the rest at start (G1)

The store, the services of what is loaded and the status are the runtime's and the same for both. Either
way a plugin comes in whole or not at all, after those it depends on, one at a time (P1 to P6, G2).

A plugin that is broken stops the agent's start if it is required, which it is unless it says
`required=False` or the setting `optionalPlugins` names it ("*": all). Otherwise it stands in `broken`, with
the reason, and the agent works without it. A lazy one is tried again at its next use.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from swarm.agent.essential import Essential
from swarm.agent.lifecycle import Phase
from swarm.agent.manifest import Manifest, stand_in
from swarm.agent.plugins import Sources, Unorderable, in_order, open_source, own_names
from swarm.agent.registering import Registrar
from swarm.agent.services import ServiceFailed, Services
from swarm.components import Action
from swarm.errors import PluginError, near
from swarm.plugin import Plugin

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

LOAD_SECONDS: Final = 60.0
MODES: Final = ("eager", "lazy")

_holding: ContextVar[object] = ContextVar("swarm_loading", default=None)


class Loading:
    """Loads into the runtime's registry. `given` are plugins as objects, `folder` is the agent's own."""

    def __init__(
        self, runtime: AgentRuntime, services: Services, given: Sequence[Plugin], folder: Path | None
    ) -> None:
        self._runtime = runtime
        self._services = services
        self._registrar = Registrar(runtime, services)
        self._sources = Sources(given, folder)
        self._available: dict[str, Manifest] = {}
        self._stand_ins: dict[str, tuple[Action, str]] = {}
        self._broken: dict[str, str] = {}
        self._lock = asyncio.Lock()
        self._holder: object = None
        self._log = logging.getLogger(f"{__name__}.{runtime.name}")

    @property
    def broken(self) -> Mapping[str, str]:
        """Plugin → the sentence that says why it is not there. A read-only view."""
        return MappingProxyType(self._broken)

    @property
    def available(self) -> Mapping[str, Manifest]:
        """What is known by its manifest and will be loaded on first use. A read-only view."""
        return MappingProxyType(self._available)

    @property
    def offered(self) -> Mapping[str, Action]:
        """Every action that can be chosen: the loaded ones, and stand-ins for those to be loaded."""
        loaded = self._runtime.registry.actions
        if not self._stand_ins:
            return loaded
        return {**loaded, **{name: action for name, (action, _) in self._stand_ins.items()}}

    @property
    def mode(self) -> str:
        """Raises PluginError for a setting that is neither."""
        mode = self._runtime.get_setting("load", "eager")
        if mode not in MODES:
            raise PluginError(
                f"The setting load is {' or '.join(MODES)}, not {mode!r}{near(str(mode), MODES)}"
            )
        return str(mode)

    def add(self, plugin: Plugin) -> None:
        """One more of the plugins given: for the start or, afterwards, to be loaded by its name."""
        self._sources.add(plugin)

    # ── at start ──────────────────────────────────────────────────────────────────────────────────
    async def load_all(self) -> None:
        """Register what belongs to the start, in order. Raises PluginError for a required one that cannot."""
        async with self._alone():
            opened = await self._open_for_start(lazy=self.mode == "lazy")
            for plugin in await self._sorted(opened):
                try:
                    self._need(plugin)
                    await self._register(plugin)
                except PluginError as error:
                    await self._give_up(plugin.name, plugin.required, error)
            for manifest in list(self._available.values()):
                try:
                    self._offer(manifest)
                except PluginError as error:
                    del self._available[manifest.name]
                    await self._give_up(manifest.name, manifest.required, error)

    async def start_services(self) -> None:
        """In the order of their dependencies. A plugin that the agent can do without goes out when its service
        cannot start."""
        async with self._alone():
            while True:
                try:
                    await self._services.start_all()
                    return
                except ServiceFailed as error:
                    plugin = self._runtime.registry.plugin(error.plugin)
                    if plugin is None:
                        raise
                    await self._lose(plugin, error)

    async def begin(self) -> None:
        """The plugins' `start`, in order, when their services run (P8)."""
        async with self._alone():
            self._registrar.live = True
            for plugin in self._runtime.registry.plugins:
                if not self._runtime.registry.has_plugin(plugin.name):
                    continue  # it went out with one that it needs
                try:
                    await self._registrar.start(plugin)
                except PluginError as error:
                    await self._lose(plugin, error)

    async def end(self) -> None:
        await self._registrar.end()

    # ── at any time ───────────────────────────────────────────────────────────────────────────────
    async def register(self, plugin: Plugin) -> None:
        """P4's order: init, services, actions, providers, evaluators, models. All or nothing; a plugin of a
        name that is registered already is left alone, with a warning. In a live agent its services and its
        `start` run before anybody can see its actions."""
        async with self._alone():
            if self._runtime.registry.has_plugin(plugin.name):
                self._log.warning("plugin %s is registered already", plugin.name)
                return
            await self._register(plugin)

    async def load(self, name: str) -> Plugin:
        """The plugin of this name, loaded once whoever asks; its dependencies first. Raises PluginError;
        the next call tries again."""
        runtime = self._runtime
        loaded = runtime.registry.plugin(name)
        if loaded is not None:
            return loaded
        if runtime.lifecycle.phase not in (Phase.INITIALIZING, Phase.ACTIVE):
            raise PluginError(
                f"Plugin {name} is not loaded: agent {runtime.name} is {runtime.lifecycle.phase}."
            )
        async with self._alone():
            try:
                async with asyncio.timeout(LOAD_SECONDS):
                    return await self._load(name, ())
            except TimeoutError as error:
                failure = PluginError(f"Plugin {name} did not load within {LOAD_SECONDS:g} s.")
                await self._give_up(name, False, failure)
                raise failure from error
            except PluginError as error:
                if name in self._sources:
                    await self._give_up(name, False, error)
                raise

    async def get_action(self, name: str) -> Action | None:
        """The action, its plugin loaded on first use (G3); None for a name that nobody offers."""
        if name in self._stand_ins:
            await self.load(self._stand_ins[name][1])
        return self._runtime.registry.actions.get(name)

    # ── how ───────────────────────────────────────────────────────────────────────────────────────
    async def _open_for_start(self, *, lazy: bool) -> list[Plugin]:
        """Find every plugin of this agent and open those that belong to the start, with all they need."""
        opened: dict[str, Plugin] = {}
        try:
            self._sources.take_own()
        except PluginError as error:
            await self._give_up(self._sources.folder_name, True, error)
        own = frozenset(self._sources)
        names = [*self._sources, *own_names(self._runtime.character.plugins)]
        setting = self._runtime.get_setting("essentialPlugins")
        essential = Essential(setting, names, own, self._is_required)
        pending = [(name, False) for name in names]
        while pending:
            name, needed = pending.pop(0)
            if name in opened:
                continue
            try:
                source = self._sources.find(name)
                manifest = source.manifest
                if not needed and not essential.may_be(name, manifest):
                    essential.leave_out(name)
                    continue
                if lazy and manifest is not None and not manifest.at_start and not needed:
                    self._available[name] = manifest
                    continue
                plugin = open_source(source)
                if not needed and not essential.keeps(plugin):
                    essential.leave_out(name)
                    continue
                opened[name] = plugin
                if isinstance(plugin.dependencies, (list, tuple)):  # else `_sorted` says that they are wrong
                    pending += [(need, True) for need in plugin.dependencies]
            except PluginError as error:
                known = self._sources.get(name)
                if known is None and needed:
                    continue  # in_order says which plugin depends on what is not there
                required = known is None or known.manifest is None or known.manifest.required
                await self._give_up(name, required, error)
        for name in opened:
            self._available.pop(name, None)
        essential.say(self._log, opened)
        return list(opened.values())

    async def _sorted(self, plugins: list[Plugin]) -> list[Plugin]:
        sound: list[Plugin] = []
        for plugin in plugins:
            try:
                plugin.check()
                sound.append(plugin)
            except PluginError as error:
                await self._give_up(plugin.name, plugin.required, error)
        while True:
            try:
                return in_order(sound)
            except Unorderable as error:
                bad, why = error.plugins, error
            for one in sound:
                if one.name in bad:
                    broken = [need for need in one.dependencies if need in self._broken]
                    because = " ".join(f"{need} is broken: {self._broken[need]}" for need in broken)
                    await self._give_up(
                        one.name, one.required, PluginError(f"{why} {because}") if because else why
                    )
            sound = [plugin for plugin in sound if plugin.name not in bad]

    async def _load(self, name: str, path: tuple[str, ...]) -> Plugin:
        loaded = self._runtime.registry.plugin(name)
        if loaded is not None:
            return loaded
        if name in path:
            circle = " → ".join([*path[path.index(name) :], name])
            raise PluginError(
                f"Plugins depend on each other in a circle: {circle}. Take one of these dependencies away."
            )
        # Off the loop: an import may take long, and a live agent has other messages in hand.
        plugin = await asyncio.to_thread(open_source, self._sources.find(name))
        plugin.check()
        for need in plugin.dependencies:
            try:
                await self._load(need, (*path, name))
            except PluginError as error:
                raise PluginError(f"Plugin {name} needs {need}: {error}") from error
        for need in plugin.optional_dependencies:
            if need in self._available:
                try:
                    await self._load(need, (*path, name))
                except PluginError as error:
                    await self._give_up(need, False, error)
        await self._register(plugin)
        return plugin

    async def _register(self, plugin: Plugin) -> None:
        self._check_offers(plugin)
        await self._registrar.register(plugin)
        self._available.pop(plugin.name, None)
        self._broken.pop(plugin.name, None)
        self._stand_ins = {name: one for name, one in self._stand_ins.items() if one[1] != plugin.name}

    def _need(self, plugin: Plugin) -> None:
        for need in plugin.dependencies:
            if not self._runtime.registry.has_plugin(need):
                why = self._broken.get(need, "it is not there.")
                raise PluginError(f"Plugin {plugin.name} needs {need}, which is broken: {why}")

    async def _lose(self, plugin: Plugin, error: PluginError) -> None:
        """Take out a registered plugin that could not begin, and those that need it. Raises `error`, or one that
        names it, when the agent cannot do without one of them."""
        if self._is_required(plugin.name, plugin.required):
            raise error
        await self._registrar.withdraw(plugin)
        await self._give_up(plugin.name, False, error)
        for other in self._runtime.registry.plugins:
            if plugin.name in other.dependencies and self._runtime.registry.has_plugin(other.name):
                because = f"Plugin {other.name} needs {plugin.name}, which is broken: {error}"
                await self._lose(other, PluginError(because))

    def _offer(self, manifest: Manifest) -> None:
        taken = self.offered
        for card in manifest.actions:
            if card.name in taken:
                raise PluginError(
                    f"Plugin {manifest.name}: Action {card.name} already registered; give it another name."
                )
        cards = {card.name: (stand_in(card, manifest.name), manifest.name) for card in manifest.actions}
        self._stand_ins = {**self._stand_ins, **cards}

    def _check_offers(self, plugin: Plugin) -> None:
        for action in plugin.actions:
            other = self._stand_ins.get(action.name, (None, plugin.name))[1]
            if other != plugin.name:
                raise PluginError(
                    f"Plugin {plugin.name}: Action {action.name} already registered by plugin {other}, "
                    "which is loaded on first use; give it another name."
                )

    def _is_required(self, name: str, declared: bool) -> bool:
        optional = self._runtime.get_setting("optionalPlugins", ())
        if isinstance(optional, str) or not isinstance(optional, Iterable):
            raise PluginError(
                f'The setting optionalPlugins must be a list of plugin names, such as ["{name}"], '
                f"not {type(optional).__name__}."
            )
        return declared and not {name, "*"} & set(optional)

    async def _give_up(self, name: str, required: bool, error: PluginError) -> None:
        """Raises `error` for a required plugin; else the agent goes on without it, and shows it."""
        if self._is_required(name, required):
            raise error
        self._broken[name] = str(error)
        self._log.error("the agent goes on without the plugin %s: %s", name, error)
        self._runtime.metrics.count_failure("plugin", name)
        await self._runtime.events.emit("plugin:failed", plugin=name, error=str(error))

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One load at a time; a plugin that loads another from its own `init` is part of its load."""
        if self._holder is not None and _holding.get() is self._holder:
            yield
            return
        async with self._lock:
            self._holder = object()
            token = _holding.set(self._holder)
            try:
                yield
            finally:
                _holding.reset(token)
                self._holder = None
