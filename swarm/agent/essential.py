"""Which plugins an agent with little room takes along: the essential ones, and what those depend on (H8).

    essentialPlugins    absent    every plugin
                        a list    those it names
                        true      those that the agent cannot do without: not `required=False`, and not named
                                  in optionalPlugins

What is given as an object and the agent's own folder are always taken. What another plugin needs comes
back with it. A plugin that is left out is not broken: it is said once, at the start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Any

from swarm.agent.manifest import Manifest
from swarm.errors import PluginError, near
from swarm.plugin import Plugin


class Essential:
    """`names` are all that could be taken, `always` those that are; `is_required` says of a name and what its
    plugin declares whether the agent cannot do without. Raises PluginError for a setting that is
    neither a list of names nor true or false."""

    def __init__(
        self,
        setting: Any,
        names: Collection[str],
        always: Collection[str],
        is_required: Callable[[str, bool], bool],
    ) -> None:
        if setting is not None and not isinstance(setting, bool | list | tuple):
            raise PluginError(
                "The setting essentialPlugins is a list of plugin names, or true for those that are required, not "
                f"{setting!r}."
            )
        self._named = None if setting is None or isinstance(setting, bool) else frozenset(setting)
        self._required_only = setting is True
        self._always = always
        self._is_required = is_required
        self._left_out: list[str] = []
        for name in self._named or ():
            if name not in names:
                raise PluginError(
                    f"The setting essentialPlugins names {name!r}, which the character does not have"
                    f"{near(str(name), names)}"
                )

    def may_be(self, name: str, manifest: Manifest | None) -> bool:
        """Whether it is worth opening, as far as its name and its manifest say."""
        if name in self._always:
            return True
        if self._named is not None:
            return name in self._named
        if not self._required_only or manifest is None:
            return True
        return self._is_required(name, manifest.required)

    def keeps(self, plugin: Plugin) -> bool:
        if plugin.name in self._always or not self._required_only:
            return True
        return self._is_required(plugin.name, plugin.required)

    def leave_out(self, name: str) -> None:
        self._left_out.append(name)

    def say(self, log: logging.Logger, taken: Iterable[str]) -> None:
        """What was left out, unless it came back because another needs it."""
        if left_out := sorted(set(self._left_out) - set(taken)):
            log.info("left out, being not essential: %s", ", ".join(left_out))
