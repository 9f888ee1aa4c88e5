"""What the plugins of one agent have registered. A plugin comes in whole or not at all (B5 to B7)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from swarm.components import Action, Evaluator, Provider
from swarm.errors import PluginError
from swarm.plugin import Plugin


class Registry:
    """Actions, providers and evaluators by name, in the order of registration; names are taken once."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}
        self._providers: dict[str, Provider] = {}
        self._evaluators: dict[str, Evaluator] = {}
        self._plugins: dict[str, Plugin] = {}
        self._owners: dict[tuple[str, str], str] = {}

    @property
    def actions(self) -> Mapping[str, Action]:
        return MappingProxyType(self._actions)

    @property
    def providers(self) -> tuple[Provider, ...]:
        """By position, then in the order of registration."""
        return tuple(sorted(self._providers.values(), key=lambda provider: provider.position))

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        return tuple(self._evaluators.values())

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        return tuple(self._plugins.values())

    def has_plugin(self, name: str) -> bool:
        return name in self._plugins

    def plugin(self, name: str) -> Plugin | None:
        return self._plugins.get(name)

    def owner_of(self, kind: str, name: str) -> str | None:
        """The plugin that brought a component; for hooks, whose names begin with it, the first part."""
        if kind == "hook":
            return name.rsplit(".", 1)[0]
        return self._owners.get(("action" if kind == "validate" else kind, name))

    def add_action(self, action: Action, owner: str = "") -> None:
        """Raises PluginError when the name is taken; nothing has changed then."""
        self._check("Action", self._actions, (action,))
        self._actions[action.name] = action
        self._owners["action", action.name] = owner

    def add_provider(self, provider: Provider, owner: str = "") -> None:
        self._check("Provider", self._providers, (provider,))
        self._providers[provider.name] = provider
        self._owners["provider", provider.name] = owner

    def add_evaluator(self, evaluator: Evaluator, owner: str = "") -> None:
        self._check("Evaluator", self._evaluators, (evaluator,))
        self._evaluators[evaluator.name] = evaluator
        self._owners["evaluator", evaluator.name] = owner

    def check(self, plugin: Plugin) -> None:
        """Raises PluginError if anything of this plugin is of a wrong type or any name of it is taken,
        before anything of it is registered."""
        plugin.check()
        self._check("Action", self._actions, plugin.actions, plugin.name)
        self._check("Provider", self._providers, plugin.providers, plugin.name)
        self._check("Evaluator", self._evaluators, plugin.evaluators, plugin.name)

    def add_plugin(self, plugin: Plugin) -> None:
        """All components of a plugin that `check` has passed, in their order (P4)."""
        for action in plugin.actions:
            self.add_action(action, plugin.name)
        for provider in plugin.providers:
            self.add_provider(provider, plugin.name)
        for evaluator in plugin.evaluators:
            self.add_evaluator(evaluator, plugin.name)
        self._plugins[plugin.name] = plugin

    def remove_plugin(self, name: str) -> None:
        """Take a plugin and all its components out again."""
        del self._plugins[name]
        mine = [key for key, owner in self._owners.items() if owner == name]
        by_kind: dict[str, dict[str, Any]] = {
            "action": self._actions,
            "provider": self._providers,
            "evaluator": self._evaluators,
        }
        for kind, component in mine:
            del self._owners[kind, component]
            del by_kind[kind][component]

    def _check(
        self,
        kind: str,
        taken: Mapping[str, object],
        given: Iterable[Action | Provider | Evaluator],
        owner: str = "",
    ) -> None:
        seen: set[str] = set()
        for one in given:
            if one.name in taken or one.name in seen:
                other = self._owners.get((kind.lower(), one.name)) if one.name in taken else owner
                by = f" by plugin {other}" if other else ""
                asker = f"Plugin {owner}: " if owner else ""
                raise PluginError(f"{asker}{kind} {one.name} already registered{by}; give it another name.")
            seen.add(one.name)
