"""From names to plugins in the order they register: resolve, then sort (P1 to P3, P5, P6).

A name resolves, in this order, through the objects passed to the runtime, the agent's own folder and
the entry points of the group ``swarm.plugins``. An elizaOS package name is never run: built-in ones do
nothing here, others warn (see swarm/character/plugins.py).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import logging
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

from swarm.character.plugins import plugin_kind
from swarm.errors import PluginError, near
from swarm.plugin import Plugin

log = logging.getLogger(__name__)

ENTRY_POINTS: Final = "swarm.plugins"
_PACKAGE: Final = "_swarm_agents"


def load_folder(folder: Path) -> Plugin | None:
    """The `plugin` of an agent's folder, or None when it has no plugin.py.

    The folder becomes a private package, so that its files import each other relatively; `sys.path`
    stays as it is. Raises PluginError, naming the file, for whatever goes wrong in it.
    """
    file = folder / "plugin.py"
    if not file.is_file():
        return None
    package = f"{_PACKAGE}.{re.sub(r'[^A-Za-z0-9_]', '_', folder.name)}"
    try:
        _make_package(_PACKAGE, [])
        _make_package(package, [str(folder)])
        module = _load(f"{package}.plugin", file)
    except PluginError:
        raise
    except BaseException as error:
        if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
            raise
        where = _line_of(error, folder)
        raise PluginError(f"{file}{where} does not load: {type(error).__name__}: {error}.") from error
    plugin = getattr(module, "plugin", None)
    if not isinstance(plugin, Plugin):
        found = "nothing of that name" if plugin is None else type(plugin).__name__
        raise PluginError(f"{file} must have a variable `plugin = Plugin(…)`; it has {found}.")
    return plugin


def resolve_plugins(
    names: Iterable[str], given: Sequence[Plugin] = (), folder: Path | None = None
) -> list[Plugin]:
    """Every plugin an agent has: those given, its folder's, those its character names, and whatever they
    depend on; each once. Raises PluginError for a name that is found nowhere, and says where it looked."""
    own = load_folder(folder) if folder is not None else None
    found: dict[str, Plugin] = {}
    for plugin in (*given, *([own] if own else [])):
        found.setdefault(plugin.name, plugin)
    wanted = [name for name in names if _is_ours(name)]
    pending = [*wanted, *(need for plugin in found.values() for need in plugin.dependencies)]
    while pending:
        name = pending.pop(0)
        if name in found:
            continue
        plugin = _from_entry_points(name, found, folder)
        found[name] = plugin
        pending.extend(plugin.dependencies)
    return list(found.values())


def in_order(plugins: Sequence[Plugin]) -> list[Plugin]:
    """Each plugin after those it depends on; ties keep the given order, a higher priority first.

    Raises PluginError for a missing dependency and for a cycle, which it names.
    """
    by_name = {plugin.name: plugin for plugin in plugins}
    waiting = sorted(plugins, key=lambda plugin: -plugin.priority)
    needs = {plugin.name: _needs(plugin, by_name) for plugin in waiting}
    ordered: list[Plugin] = []
    done: set[str] = set()
    while waiting:
        ready = next((plugin for plugin in waiting if needs[plugin.name] <= done), None)
        if ready is None:
            raise PluginError(f"Plugins depend on each other in a circle: {_cycle(waiting, needs)}.")
        waiting.remove(ready)
        ordered.append(ready)
        done.add(ready.name)
    return ordered


def _needs(plugin: Plugin, by_name: Mapping[str, Plugin]) -> set[str]:
    for name in plugin.dependencies:
        if name not in by_name:
            raise PluginError(
                f"Plugin {plugin.name} depends on {name!r}, which is not there{near(name, by_name)} "
                "Install it or pass it to the runtime."
            )
    return {*plugin.dependencies, *(name for name in plugin.optional_dependencies if name in by_name)}


def _cycle(waiting: Sequence[Plugin], needs: Mapping[str, set[str]]) -> str:
    """One circle among the waiting, as ``a → b → a``."""
    stuck = {plugin.name for plugin in waiting}
    path = [waiting[0].name]
    while path[-1] not in path[:-1]:
        path.append(next(name for name in sorted(needs[path[-1]]) if name in stuck))
    return " → ".join(path[path.index(path[-1]) :])


def _is_ours(name: str) -> bool:
    kind = plugin_kind(name)
    if kind == "foreign":
        log.warning("plugin %s is an npm package and is ignored here; write what it did as a plugin.py", name)
    return kind == "own"


def _from_entry_points(name: str, found: Mapping[str, Plugin], folder: Path | None) -> Plugin:
    entries = {entry.name: entry for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in entries:
        looked = [f"the entry points {ENTRY_POINTS!r}"]
        if folder is not None:
            looked.insert(0, f"the folder {folder}")
        raise PluginError(
            f"There is no plugin {name!r}{near(name, [*found, *entries])} I looked in {' and '.join(looked)}."
        )
    try:
        plugin = entries[name].load()
    except Exception as error:
        raise PluginError(f"Plugin {name!r} does not load: {type(error).__name__}: {error}.") from error
    if not isinstance(plugin, Plugin):
        raise PluginError(f"The entry point {name!r} is a {type(plugin).__name__}, not a Plugin.")
    return plugin


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


def _line_of(error: BaseException, folder: Path) -> str:
    """`` line 12``: the deepest line of the agent's own code in the traceback."""
    line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename.startswith(str(folder)):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" line {line}" if line else ""
