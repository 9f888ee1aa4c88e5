"""From a character to a child that can be asked for: what `peers.spawn`, `Swarm.spawn` and `swarm spawn` share."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from swarm.errors import CharacterError, UsageError
from swarm.records import NewChild, Orphans

if TYPE_CHECKING:
    from swarm.character import Character

    Source = str | os.PathLike[str] | Mapping[str, Any] | Character


class ChildOptions(TypedDict, total=False):
    """`name` is made of the character's unless it is given. `permissions` may name some rights; the others are a
    child's defaults. `orphans` says what becomes of *its* children when it dies. `secrets` are names of the
    parent's secrets that it gets."""

    name: str | None
    permissions: Mapping[str, bool] | None
    orphans: Orphans
    roles: Collection[str]
    secrets: Collection[str]


async def new_child(source: Source, *, project: Path, **options: Unpack[ChildOptions]) -> NewChild:
    """The child that a source of a character means. A path is relative to the folder `project`, and if it lies in
    there the child has its plugins and its own secrets from it; of other sources it has the document alone.

    Raises CharacterError for a source that is none or that has secrets which would have to travel, UsageError for a
    name that cannot be made of the character's.
    """
    from swarm.character import load_character

    place = _place(source, project)
    character = await load_character(source if place is None else place)
    inside = _inside(place, project)
    if inside is None and place is not None and (place / "plugin.py").is_file():
        raise UsageError(
            f"{place} has a plugin and lies outside of {project}; move the folder into the project."
        )
    if inside is None and character.secrets:
        raise CharacterError(
            f"{character.name} brings secrets ({', '.join(sorted(character.secrets))}), which never travel; "
            "take them out and name those that its parent is to hand down, or put the character into the project."
        )
    return NewChild(
        name=options.get("name") or agent_name(character.name),
        id=character.id,
        character=character.public(),
        version=character.version,
        source=inside or "",
        permissions=dict(options.get("permissions") or {}),
        orphans=options.get("orphans", "keep"),
        roles=tuple(options.get("roles", ())),
        secrets=tuple(dict.fromkeys(options.get("secrets", ()))),
    )


def agent_name(character: str) -> str:
    """``Apprentice No. 2`` → ``apprentice-no-2``. Raises UsageError when nothing is left of it."""
    name = re.sub(r"[^a-z0-9_]+", "-", character.lower()).strip("-_")[:63]
    if not name:
        raise UsageError(f"No agent's name can be made of {character!r}; give it one.")
    return name


def _place(source: object, project: Path) -> Path | None:
    """The path that a source is; None for documents, URLs and what else has a scheme."""
    if isinstance(source, str) and (
        not source or source.partition(":")[0] in ("http", "https", "env", "agent")
    ):
        return None
    if isinstance(source, str | os.PathLike) and "://" not in os.fspath(source):
        return project / os.fspath(source)
    return None


def _inside(place: Path | None, project: Path) -> str | None:
    if place is None:
        return None
    resolved, root = place.resolve(), project.resolve()
    return str(resolved.relative_to(root)) if resolved.is_relative_to(root) else None
