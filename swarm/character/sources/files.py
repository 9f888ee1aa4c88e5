"""Local files: character files, gallery folders and, where code is allowed, Python files."""

from __future__ import annotations

import errno
import stat
import traceback
from collections.abc import Mapping
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from swarm.character.sources.text import FORMATS, parse
from swarm.errors import CharacterError

MAX_FILE_BYTES: Final = 1_000_000
GALLERY_NAMES: Final = tuple(f"character{suffix}" for suffix in FORMATS)


def read_path(path: Path, *, allow_code: bool) -> Mapping[str, Any] | None:
    """The document of a file or gallery folder; None when the path is no character source at all.

    Blocks on the disk (and, for Python, on whatever the file does): call it in a thread.
    """
    try:
        if path.is_dir():
            return read_path(find_in_folder(path), allow_code=allow_code)
        known = path.suffix.lower() in FORMATS or path.suffix == ".py"
        if not known:
            return None
        octets = _read(path)
    except ValueError:  # a NUL in the path
        return None
    except FileNotFoundError:
        raise CharacterError(f"There is no character file {path}{_near(path)}", reason="not_found") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise CharacterError(f"Cannot read {path}: {error.strerror or error}.") from error
    if path.suffix == ".py":
        if not allow_code:
            raise CharacterError(f"{path} is code, which may not be loaded here; use JSON, TOML or YAML.")
        return _run(octets, path)
    return parse(octets, FORMATS[path.suffix.lower()], str(path))


def find_in_folder(folder: Path) -> Path:
    """The one character file of a gallery folder."""
    found = [folder / name for name in GALLERY_NAMES if (folder / name).is_file()]
    if not found:
        raise CharacterError(f"{folder} has no character file; add one of {', '.join(GALLERY_NAMES)}.")
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise CharacterError(f"{folder} has several character files: {names}; keep one.")
    return found[0]


def near_paths(path: Path) -> str:
    """``; did you mean agents/reader?`` for a path that does not exist, or nothing."""
    try:
        siblings = [entry.name for entry in path.parent.iterdir()]
    except (OSError, ValueError):
        return ""
    close = get_close_matches(path.name, siblings, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(str(path.with_name(name)) for name in close)}?" if close else ""


def _near(path: Path) -> str:
    """The end of a sentence: near names, looking one folder up where the folder itself is missing."""
    return near_paths(path) or (near_paths(path.parent) if not path.parent.exists() else "") or "."


def _read(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device would never end
        raise CharacterError(f"{path} is not an ordinary file.")
    with path.open("rb") as file:
        octets = file.read(MAX_FILE_BYTES + 1)
    if len(octets) > MAX_FILE_BYTES:
        raise CharacterError(
            f"{path} is larger than {MAX_FILE_BYTES:,} bytes; move knowledge to its own files."
        )
    return octets


def _run(octets: bytes, path: Path) -> Mapping[str, Any]:
    """Run a Python file as a module nobody else sees: not in `sys.modules`, no bytecode left beside it."""
    module = ModuleType(f"_swarm_character_{sha256(str(path.resolve()).encode()).hexdigest()[:12]}")
    module.__file__ = str(path)
    try:
        exec(compile(octets, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    except SyntaxError as error:
        raise CharacterError(f"{path}, line {error.lineno}: {error.msg}.") from error
    except (Exception, SystemExit) as error:
        ours = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path)]
        line = f", line {ours[-1]}" if ours else ""
        raise CharacterError(f"{path}{line}: {type(error).__name__}: {error}.") from error
    value = getattr(module, "character", None)
    if value is None:
        value = getattr(module, "default", None)
    if value is None:
        raise CharacterError(f"{path} defines neither character nor default; assign one of them.")
    from swarm.character.model import Character

    if isinstance(value, Character):
        return value.unsealed()
    if not isinstance(value, Mapping):
        raise CharacterError(
            f"The character in {path} must be a dict or a Character, not {type(value).__name__}."
        )
    return value
