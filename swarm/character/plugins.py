"""What the plugin names of a character mean here. elizaOS files name npm packages; none of them is run.

builtin    the runtime does it itself: bootstrap and sql
provider   a model plugin: a hint which model provider the author had in mind
foreign    another npm package: ignored, with a warning
own        a name of ours: found among installed plugins (entry points `swarm.plugins`) or the agent's folder
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Literal

PluginKind = Literal["builtin", "provider", "foreign", "own"]

_BUILT_IN: Final = frozenset({"plugin-bootstrap", "plugin-sql"})
_PROVIDERS: Final = {
    "plugin-openai": "openai",
    "plugin-anthropic": "anthropic",
    "plugin-ollama": "ollama",
    "plugin-openrouter": "openrouter",
    "plugin-google-genai": "google",
    "plugin-groq": "groq",
    "plugin-local-ai": "local",
    "plugin-local-embedding": "local",
    "plugin-elizacloud": "elizacloud",
}
_SCOPES: Final = ("@elizaos/", "@elizaos-plugins/", "@ai16z/")


def plugin_kind(name: str) -> PluginKind:
    """What a plugin name means here."""
    package = _elizaos_package(name)
    if package in _BUILT_IN:
        return "builtin"
    if package in _PROVIDERS:
        return "provider"
    if package is not None or name.startswith("@"):
        return "foreign"
    return "own"


def provider_hint(name: str) -> str | None:
    """The model provider that a plugin name hints at: ``openai`` for ``@elizaos/plugin-openai``."""
    package = _elizaos_package(name)
    return _PROVIDERS.get(package) if package is not None else None


def plugin_warnings(names: Iterable[str]) -> Iterator[str]:
    """A sentence for each name that is ignored here."""
    for name in names:
        if plugin_kind(name) == "foreign":
            yield f"plugin {name} is an npm package and is ignored here; write what it did as a plugin.py"


def _elizaos_package(name: str) -> str | None:
    for scope in _SCOPES:
        if name.startswith(scope):
            return name.removeprefix(scope)
    return None
