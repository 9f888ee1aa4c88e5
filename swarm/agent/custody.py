"""Whose hands a plugin's folder is in: code is loaded only where nobody but its owner and group may write.

A folder or file that everyone may write would let any user of the machine run code with the agent's rights, its
database role and its keys; a link that leads out of the project runs what nobody who reads the project has seen.
The owner's number is not looked at: a volume mounted from another machine has that machine's numbers.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from swarm.errors import PluginError
from swarm.project import FILE_NAME

HAS_MODES: Final = os.name == "posix"


def require_custody(folder: Path, within: Path | None = None) -> None:
    """Look at a plugin's folder before anything in it is run; `within` is the agent's own (else `folder` is).

    Raises PluginError for a link out of the project (of the agent's folder, where there is no project), and for a
    folder, a Python file or compiled code in it that everyone may write.
    """
    bound = _bound(within or folder)
    for path in (folder, *_code_in(folder)):
        real = path.resolve()
        if not real.is_relative_to(bound):
            raise PluginError(
                f"{path} leads out of {bound}, to {real}; put a copy there, or install the plugin as a package."
            )
        if HAS_MODES and real.stat().st_mode & stat.S_IWOTH:
            raise PluginError(
                f"{path} may be written by everyone on this machine, so it is not run; `chmod -R o-w {folder}`."
            )


def _bound(folder: Path) -> Path:
    """The project that the folder is in, as it is spelled and not where it leads; else the folder."""
    spelled = Path(os.path.abspath(folder))  # noqa: PTH100  (a link must not be followed yet)
    project = next((place for place in spelled.parents if (place / FILE_NAME).is_file()), spelled)
    return project.resolve()


def _code_in(folder: Path) -> list[Path]:
    """What an import could run: Python files and packages, with what Python has compiled of them."""
    found: list[Path] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise PluginError(f"{folder} cannot be read: {error.strerror}.") from error
    for entry in entries:
        if entry.suffix in {".py", ".pyc", ".so"}:
            found.append(entry)
        elif entry.is_dir() and (entry.name == "__pycache__" or (entry / "__init__.py").is_file()):
            found += [entry, *([] if entry.is_symlink() else _code_in(entry))]
    return found
