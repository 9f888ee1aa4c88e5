"""A plugin's manifest: what it offers, readable without importing it (G3).

It stands beside the code as `plugin.json` (for an installed module `x.py`: `x.plugin.json`) and is written by

    python -m swarm.agent.manifest FOLDER

It is a file, not entry-point metadata or a reading of the source: metadata has no place for descriptions and
schemas, a source computes its names, and a file shows in a review when what a plugin offers changes. When the
plugin is loaded, it is held to its manifest.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from swarm.components import Action
from swarm.errors import PluginError
from swarm.plugin import Plugin

FILE_NAME: Final = "plugin.json"
_TYPES: Final[dict[Any, Any]] = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "array": list[Any],
    "object": dict[str, Any],
    "null": None,
}


class ActionCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An action as people and models see it. `parameters` is a JSON Schema; `validated` says that the
    action has a `validate`, which is asked once its plugin is loaded."""

    name: str
    description: str = ""
    similes: tuple[str, ...] = ()
    examples: tuple[Any, ...] = ()
    parameters: dict[str, Any] | None = None
    validated: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """`at_start`: the plugin acts on messages that name none of its actions (hooks, providers, evaluators,
    models, events), so it is loaded at start even by a lazy agent: laziness never switches off a guard."""

    name: str
    description: str = ""
    actions: tuple[ActionCard, ...] = ()
    dependencies: tuple[str, ...] = ()
    optional_dependencies: tuple[str, ...] = ()
    priority: int = 0
    required: bool = True
    at_start: bool = False
    inheritable: bool = False


def manifest_of(plugin: Plugin) -> Manifest:
    """The manifest of a plugin that is loaded."""
    hooks = (plugin.before_message, plugin.after_message, plugin.before_action, plugin.after_action)
    return Manifest(
        name=plugin.name,
        description=plugin.description,
        actions=tuple(_card(action) for action in plugin.actions),
        dependencies=tuple(plugin.dependencies),
        optional_dependencies=tuple(plugin.optional_dependencies),
        priority=plugin.priority,
        required=plugin.required,
        inheritable=plugin.inheritable,
        at_start=bool(plugin.providers or plugin.evaluators or plugin.models or plugin.events or any(hooks)),
    )


def read_manifest(file: Path) -> Manifest | None:
    """The manifest in `file`, or None when there is none. Raises PluginError, naming the file, for a bad one."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Manifest)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise PluginError(
            f"{file} is not a plugin's manifest: {error}. "
            f"Write it again: python -m swarm.agent.manifest {file.parent}"
        ) from error


def write_manifest(plugin: Plugin, file: Path) -> None:
    text = msgspec.json.encode(manifest_of(plugin), enc_hook=str, order="deterministic")
    file.write_bytes(msgspec.json.format(text, indent=2) + b"\n")


def check_manifest(manifest: Manifest, plugin: Plugin, where: str) -> None:
    """Raises PluginError when the plugin does not keep what its manifest promises."""
    missing = sorted({card.name for card in manifest.actions} - {action.name for action in plugin.actions})
    if plugin.name != manifest.name or missing:
        what = f"it has no {', '.join(missing)}" if missing else f"it calls itself {plugin.name!r}"
        raise PluginError(
            f"Plugin {manifest.name} is not what its manifest says: {what}. Write the manifest of {where} again."
        )


def stand_in(card: ActionCard, plugin: str) -> Action:
    """An action that can be chosen, for one whose plugin is not loaded. It is replaced before it would run."""

    async def not_loaded() -> None:
        raise PluginError(f"Action {card.name} of plugin {plugin} ran before its plugin was loaded.")

    return Action(
        card.name,
        not_loaded,
        description=card.description or card.name,
        similes=card.similes,
        examples=card.examples,
        parameters=_parameters(card.parameters) if card.parameters else None,
    )


def _card(action: Action) -> ActionCard:
    return ActionCard(
        name=action.name,
        description=action.description,
        similes=tuple(action.similes),
        examples=tuple(action.examples),
        parameters=_schema(action.parameters),
        validated=action.validate is not None,
    )


def _schema(parameters: Any) -> dict[str, Any] | None:
    """A JSON Schema with its properties at the top."""
    if parameters is None:
        return None
    if hasattr(parameters, "model_json_schema"):
        return dict(parameters.model_json_schema())
    (schema,), parts = msgspec.json.schema_components([parameters], ref_template="#/$defs/{name}")
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    top = dict(parts.pop(name)) if name in parts else dict(schema)
    return {**top, "$defs": parts} if parts else top


def _parameters(schema: Mapping[str, Any]) -> type[msgspec.Struct]:
    """As much of a schema as decides whether a message can be meant: what is required, and plain types."""
    required = set(schema.get("required") or ())
    fields: list[Any] = []
    for name, part in (schema.get("properties") or {}).items():
        kind = _TYPES.get(part.get("type"), Any) if isinstance(part.get("type"), str) else Any
        fields.append((name, kind) if name in required else (name, kind | None, None))
    return msgspec.defstruct("Parameters", fields, kw_only=True)


def main(arguments: list[str]) -> int:
    """Write the manifests of the folders named; prints each file."""
    from swarm.agent.plugins import load_folder

    if not arguments:
        sys.stderr.write("Name the folders of plugins: python -m swarm.agent.manifest FOLDER…\n")
        return 2
    for argument in arguments:
        folder = Path(argument)
        try:
            plugin = load_folder(folder)
        except PluginError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        if plugin is None:
            sys.stderr.write(f"There is no plugin.py in {folder}.\n")
            return 1
        write_manifest(plugin, folder / FILE_NAME)
        sys.stdout.write(f"{folder / FILE_NAME}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
