"""What a spawned agent inherits: its ancestors' settings, their inheritable plugins, and secrets by name (F8).

The line begins with the ancestor that is in the swarm file and ends with the parent at birth; whoever became the
parent later changes nothing here. Documents come from the store, so that what was spawned is what starts; plugins
and secrets come from the project's folder, because neither travels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from swarm.agent.plugins import Source, find_source, folder_source, own_names
from swarm.character import Character, load_character
from swarm.errors import CharacterError, ConfigError, PluginError
from swarm.plugin import Plugin
from swarm.protocol import Ancestor

if TYPE_CHECKING:
    from swarm.agent.spec import AgentSpec
    from swarm.store import Store

log = logging.getLogger(__name__)


class Heritage(NamedTuple):
    character: Character
    plugins: tuple[Plugin, ...]
    """The ancestors', the eldest's first; the agent's own are found in its folder and by its character."""
    folder: Path | None


async def read_heritage(spec: AgentSpec, store: Store) -> Heritage:
    """Raises CharacterError, ConfigError and PluginError for what was to be inherited and is not there."""
    project = Path(spec.project)
    own = Ancestor(spec.agent, spec.agent_id, spec.source, spec.secrets)
    settings: dict[str, Any] = {}
    secrets: dict[str, Any] = {}
    plugins: dict[str, Plugin] = {}
    document: dict[str, Any] = {}
    for member in (*spec.heritage, own):
        _require_source(project, member)
        document = await _document(store, member)
        handed = {} if member is spec.heritage[0] else _named(secrets, member)
        secrets = {**handed, **await _secrets(project, member, needed=member is own or bool(spec.secrets))}
        settings = inherit_settings(settings, document.get("settings", {}))
        if member is not own:
            for plugin in inheritable_plugins(_folder(project, member.source), document.get("plugins", ())):
                plugins.setdefault(plugin.name, plugin)
    character = Character(**{**document, "settings": settings, "secrets": secrets})
    return Heritage(character, tuple(plugins.values()), _folder(project, spec.source))


def inherit_settings(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """A shallow merge in which the child wins; what it sets to null stays unset."""
    return {**parent, **child}


def inheritable_plugins(folder: Path | None, names: Sequence[str]) -> list[Plugin]:
    """Of an agent's plugins (its folder's own, and those that its character names) the ones that say
    `inheritable=True`, with what they depend on; in this order. Raises PluginError for one that does not load."""
    sources = _sources(folder, names)
    opened: dict[str, Plugin] = {}
    for source in sources.values():
        if source.manifest is None or source.manifest.inheritable:  # without one only its code can say so
            plugin = source.open()
            opened.setdefault(plugin.name, plugin)
    wanted = [plugin.name for plugin in opened.values() if plugin.inheritable]
    for name in wanted:
        for need in opened[name].dependencies:
            if need not in wanted and (need in opened or need in sources):
                opened[need] = opened.get(need) or sources[need].open()
                wanted.append(need)
    return [plugin for plugin in opened.values() if plugin.name in wanted]


def _sources(folder: Path | None, names: Sequence[str]) -> dict[str, Source]:
    found: dict[str, Source] = {}
    own = None if folder is None else folder_source(folder)
    if own is not None:
        found[own.name] = own
    for name in own_names(names):
        try:
            found.setdefault(name, find_source(name, found, folder))
        except PluginError as error:
            log.warning("the parent's plugin %s is not inherited: %s", name, error)
    return found


async def _document(store: Store, member: Ancestor) -> dict[str, Any]:
    document = await store.get_character(member.agent_id)
    if document is None:
        raise CharacterError(f"The store has no character of {member.agent}; spawn it again.")
    return document


def _require_source(project: Path, member: Ancestor) -> None:
    source = member.source
    if (
        source
        and source.partition(":")[0] not in ("http", "https", "env")
        and not (project / source).exists()
    ):
        raise CharacterError(
            f"{member.agent} was made of {source}, which is not there any more; put it back, or remove the agent."
        )


def _named(secrets: Mapping[str, Any], member: Ancestor) -> dict[str, Any]:
    missing = [name for name in member.secrets if name not in secrets]
    if missing:
        raise ConfigError(
            f"{member.agent} was to get the secrets {', '.join(missing)} of its parent, which has none of that name; "
            "give them to the parent, or spawn it without."
        )
    return {name: secrets[name] for name in member.secrets}


async def _secrets(project: Path, member: Ancestor, *, needed: bool) -> dict[str, Any]:
    """A member's own secrets, from the file that it was made of, if there is one."""
    path = project / member.source
    if not needed or not member.source or not path.exists():
        return {}
    return dict((await load_character(path)).secrets)


def _folder(project: Path, source: str) -> Path | None:
    path = project / source
    return path if source and path.is_dir() else None
