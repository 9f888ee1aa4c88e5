"""From names to plugins in the order they register: resolve, then sort (P1 to P3, P5, P6).

A name resolves, in this order, through the objects passed to the runtime, the agent's own folder
(its plugin.py, then plugins/NAME/plugin.py) and the entry points of the group ``swarm.plugins``. An
elizaOS package name is never run: built-in ones do nothing here, others warn (see
swarm/character/plugins.py).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from swarm.agent.custody import require_custody
from swarm.agent.manifest import FILE_NAME, Manifest, check_manifest, read_manifest
from swarm.agent.storable import describe
from swarm.character.plugins import plugin_kind
from swarm.errors import PluginError, near
from swarm.plugin import Plugin

log = logging.getLogger(__name__)

ENTRY_POINTS: Final = "swarm.plugins"
_PACKAGE: Final = "_swarm_agents"


def load_folder(folder: Path, within: Path | None = None) -> Plugin | None:
    """The `plugin` of a folder, or None when it has no plugin.py; `within` is the agent's folder, if not this.

    The folder becomes a private package, so that its files import each other relatively; `sys.path`
    stays as it is. Raises PluginError, naming the file, for whatever goes wrong in it, and before any
    of it is run for a folder in nobody's custody (custody.py).
    """
    file = folder / "plugin.py"
    if not file.is_file():
        return None
    require_custody(folder, within)
    mark = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:8]  # two folders may have one name
    package = f"{_PACKAGE}.{re.sub(r'[^A-Za-z0-9_]', '_', folder.name)}_{mark}"
    try:
        _make_package(_PACKAGE, [])
        _make_package(package, [str(folder)])
        module = _load(f"{package}.plugin", file)
    except BaseException as error:
        for name in [one for one in sys.modules if one.startswith(f"{package}.")]:
            del sys.modules[name]  # the next try reads its files anew
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise
        where = f"{file}{_line_of(error, folder)}"
        if isinstance(
            error, PluginError
        ):  # what it declares is not right, and its own sentence says what to do
            raise PluginError(f"{where}: {error}") from error
        raise PluginError(
            f"{where} does not load: {describe(error).rstrip('.')}. {_remedy(error)}"
        ) from error
    plugin = getattr(module, "plugin", None)
    if not isinstance(plugin, Plugin):
        found = "nothing of that name" if plugin is None else type(plugin).__name__
        raise PluginError(f"{file} must have a variable `plugin = Plugin(…)`; it has {found}.")
    return plugin


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plugin comes from. `open` loads it and may be called again after it raised PluginError;
    `manifest` says what it offers before that, if it has one."""

    name: str
    where: str
    open: Callable[[], Plugin]
    manifest: Manifest | None = None


def given_source(plugin: Plugin, where: str = "the plugins given to the runtime") -> Source:
    return Source(plugin.name, where, lambda: plugin)


def folder_source(folder: Path, name: str | None = None, within: Path | None = None) -> Source | None:
    """The plugin.py of a folder; without a manifest it goes by `name`, else by the folder's own."""
    if not (folder / "plugin.py").is_file():
        return None
    manifest = read_manifest(folder / FILE_NAME)

    def open_folder() -> Plugin:
        plugin = load_folder(folder, within)
        if plugin is None:
            raise PluginError(f"{folder / 'plugin.py'} is gone; put it back, or take its name out.")
        return plugin

    return Source(manifest.name if manifest else name or folder.name, str(folder), open_folder, manifest)


def find_source(name: str, known: Iterable[str], folder: Path | None) -> Source:
    """The plugin of a name: in the agent's folder under `plugins/NAME`, else among the entry points.

    Raises PluginError for a name that is found nowhere, and says where it looked.
    """
    if folder is not None and re.fullmatch(r"[A-Za-z0-9_-]+", name):
        found = folder_source(folder / "plugins" / name, name, folder)
        if found is not None:
            return found
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in entries:
        looked = [f"the entry points {ENTRY_POINTS!r}"]
        if folder is not None:
            looked.insert(0, f"the folder {folder}")
        raise PluginError(
            f"There is no plugin {name!r}{near(name, [*known, *entries])} I looked in {' and '.join(looked)}. "
            "Put it there, install it, or correct the character's `plugins`."
        )
    entry = entries[name]
    return Source(
        name, f"the entry point {entry.value}", lambda: _from_entry_point(entry), _manifest_of(entry)
    )


def open_source(source: Source) -> Plugin:
    """Load the plugin. Raises PluginError, also when it is another than its manifest or its place says."""
    plugin = source.open()
    if source.manifest is not None:
        check_manifest(source.manifest, plugin, source.where)
    elif plugin.name != source.name:
        raise PluginError(
            f"Plugin {source.name!r} of {source.where} calls itself {plugin.name!r}; give both one name."
        )
    return plugin


class Sources(Mapping[str, Source]):
    """Where one agent's plugins come from, by name: those given as objects, its folder's own, and then whatever has
    been looked for."""

    def __init__(self, given: Iterable[Plugin], folder: Path | None) -> None:
        self._folder = folder
        self._known: dict[str, Source] = {}
        for plugin in given:
            self.add(plugin)

    @property
    def folder_name(self) -> str:
        return self._folder.name if self._folder is not None else ""

    def add(self, plugin: Plugin) -> None:
        self._take(given_source(plugin))

    def take_own(self) -> None:
        """The folder's own plugin joins. Raises PluginError for one whose code must say its name and cannot."""
        own = folder_source(self._folder) if self._folder is not None else None
        if own is not None and own.manifest is None:
            own = given_source(own.open(), own.where)
        if own is not None:
            self._take(own)

    def _take(self, source: Source) -> None:
        """The first of a name stays (P6)."""
        first = self._known.setdefault(source.name, source)
        if first is not source:
            log.warning(
                "there is a plugin %s already, of %s; the one of %s is left out",
                source.name,
                first.where,
                source.where,
            )

    def find(self, name: str) -> Source:
        """Raises PluginError for a name that is found nowhere, and says where it looked."""
        if name not in self._known:
            self._known[name] = find_source(name, self._known, self._folder)
        return self._known[name]

    def __getitem__(self, name: str) -> Source:
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Unorderable(PluginError):
    """`plugins` are the names of those that cannot be put in order."""

    def __init__(self, text: str, plugins: Iterable[str]) -> None:
        super().__init__(text)
        self.plugins = tuple(plugins)


def in_order(plugins: Sequence[Plugin]) -> list[Plugin]:
    """Each plugin after those it depends on; ties keep the given order, a higher priority first.

    Raises Unorderable for a missing dependency and for a cycle, which it names.
    """
    by_name = {plugin.name: plugin for plugin in plugins}
    waiting = sorted(plugins, key=lambda plugin: -plugin.priority)
    needs = {plugin.name: _needs(plugin, by_name) for plugin in waiting}
    ordered: list[Plugin] = []
    done: set[str] = set()
    while waiting:
        ready = next((plugin for plugin in waiting if needs[plugin.name] <= done), None)
        if ready is None:
            circle = _cycle(waiting, needs)
            raise Unorderable(
                f"Plugins depend on each other in a circle: {' → '.join(circle)}. Take one of these "
                "dependencies away.",
                circle[:-1],
            )
        waiting.remove(ready)
        ordered.append(ready)
        done.add(ready.name)
    return ordered


def _needs(plugin: Plugin, by_name: Mapping[str, Plugin]) -> set[str]:
    for name in plugin.dependencies:
        if name not in by_name:
            raise Unorderable(
                f"Plugin {plugin.name} depends on {name!r}, which is not there{near(name, by_name)} "
                "Install it or pass it to the runtime.",
                [plugin.name],
            )
    return {*plugin.dependencies, *(name for name in plugin.optional_dependencies if name in by_name)}


def _cycle(waiting: Sequence[Plugin], needs: Mapping[str, set[str]]) -> list[str]:
    """One circle among the waiting; its first name stands at its end again."""
    stuck = {plugin.name for plugin in waiting}
    path = [waiting[0].name]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in sorted(needs[path[-1]]) if name in stuck))
    return path[path.index(path[-1]) :]


def own_names(names: Iterable[str]) -> list[str]:
    """The names of a character's list that are ours to load; a foreign one warns."""
    for name in names:
        if plugin_kind(name) == "foreign":
            log.warning(
                "plugin %s is an npm package and is ignored here; write what it did as a plugin.py", name
            )
    return [name for name in names if plugin_kind(name) == "own"]


def _from_entry_point(entry: importlib.metadata.EntryPoint) -> Plugin:
    try:
        plugin = entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"Plugin {entry.name!r} ({entry.value}) does not load: {describe(error).rstrip('.')}. "
            "Repair or reinstall it, or take its name out of the character's plugins."
        ) from error
    if not isinstance(plugin, Plugin):
        raise PluginError(f"The entry point {entry.name!r} is a {type(plugin).__name__}, not a Plugin.")
    return plugin


def _manifest_of(entry: importlib.metadata.EntryPoint) -> Manifest | None:
    """The manifest beside an entry point's module, found without importing any package."""
    top, *rest = entry.module.split(".")
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    package = spec.submodule_search_locations is not None
    place = Path(spec.origin).parent.joinpath(*rest) if package else Path(spec.origin).with_suffix("")
    return read_manifest(place / FILE_NAME) or read_manifest(place.with_name(f"{place.name}.{FILE_NAME}"))


def _make_package(name: str, path: list[str]) -> None:
    if name not in sys.modules:
        module = ModuleType(name)
        module.__path__ = path
        sys.modules[name] = module


def _load(name: str, file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise PluginError(f"{file} cannot be loaded as Python.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _remedy(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith(_PACKAGE):
        return f"Install {error.name.partition('.')[0]}, or take the import out."
    return "Repair the file; `swarm doctor --plugin` tries it again."


def _line_of(error: BaseException, folder: Path) -> str:
    """`` line 12``: the deepest line of the agent's own code in the traceback."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(str(folder)):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" line {line}" if line else ""
