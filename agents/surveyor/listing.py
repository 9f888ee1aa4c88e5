"""The files of a folder, in one order for ever, and what was left out and why.

Folders that hold no work of people are skipped: version control, environments, caches. Links are not
followed and special files not opened: they are named in the report instead.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from .naming import shown

SKIPPED: Final = frozenset(
    {
        ".git", ".hg", ".svn", ".venv", "venv", "node_modules", "__pycache__", ".swarm", ".tox", ".nox",
        ".mypy_cache", ".ruff_cache", ".pytest_cache", ".import_linter_cache", ".hypothesis", ".cache",
        ".idea", ".gradle", ".terraform",
    }
)  # fmt: skip
_MARKS: Final = frozenset({"CACHEDIR.TAG", "pyvenv.cfg"})
"""A folder with one of these says itself that it is a cache or an environment."""


@dataclass(frozen=True, slots=True)
class Listing:
    """`files` and the names in `left_out` (name, reason) are relative to `root`, as the system spells them.
    `beyond` counts the files past the bound that were seen and not taken."""

    root: str
    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    skipped: tuple[str, ...] = ()
    beyond: int = 0


@dataclass(slots=True)
class _Walk:
    root: str
    most: int
    files: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    beyond: int = 0


def list_files(root: str, most: int, spared: str = "") -> Listing:
    """Walk `root`, taking at most `most` files; `spared` is a path (the report's) that is not surveyed.
    Blocks: call it in a thread. Raises OSError if the root itself cannot be listed."""
    walk = _Walk(root, most)
    folders = [""]
    with os.scandir(root):
        pass
    while folders:
        folders.extend(reversed(_look(walk, folders.pop(), spared)))
    return Listing(root, tuple(walk.files), tuple(walk.left_out), tuple(walk.skipped), walk.beyond)


def _look(walk: _Walk, folder: str, spared: str) -> list[str]:
    """Take the files of one folder; its folders are returned, in order."""
    try:
        with os.scandir(os.path.join(walk.root, folder)) as found:  # noqa: PTH118 — names may be any bytes
            entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    except OSError as error:
        walk.left_out.append((f"{folder}/", f"This folder could not be listed: {_words(error)}."))
        return []
    if folder and any(entry.name in _MARKS for entry in entries):
        walk.skipped.append(folder)
        return []
    below: list[str] = []
    for entry in entries:
        name = f"{folder}/{entry.name}" if folder else entry.name
        if entry.path == spared:
            continue
        try:
            mode = entry.stat(follow_symlinks=False).st_mode
        except OSError as error:
            walk.left_out.append((name, f"It could not be looked at: {_words(error)}."))
            continue
        if stat.S_ISDIR(mode):
            (walk.skipped if entry.name in SKIPPED else below).append(name)
        elif stat.S_ISLNK(mode):
            walk.left_out.append((name, "It is a symbolic link, and links are not followed."))
        elif not stat.S_ISREG(mode):
            walk.left_out.append((name, "It is a pipe, a socket or a device, not a file; it was not opened."))
        elif len(walk.files) < walk.most:
            walk.files.append(name)
        else:
            walk.beyond += 1
    return below


def _words(error: OSError) -> str:
    return (os.strerror(error.errno) if error.errno else "unknown error").lower()


def refusal(root: str) -> str:
    """Why this cannot be surveyed, in a sentence; "" when it can."""
    if not os.path.lexists(root):
        return f"There is no folder {shown(root)}: give the path of one that exists."
    if not os.path.isdir(root):  # noqa: PTH112
        return f"{shown(root)} is not a folder: give the folder that it lies in."
    if not os.access(root, os.R_OK | os.X_OK):
        return f"The folder {shown(root)} may not be read: its owner does not let us."
    return ""
