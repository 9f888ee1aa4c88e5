"""A folder's texts as passages: which files, and where each passage begins and ends.

Blocks: call it in a thread. Nothing here knows a store.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

MOST_FILES: Final = 500
MOST_BYTES: Final = 512 * 1024
"""Of one file."""
MOST_PASSAGES: Final = 5000
PASSAGE_CHARS: Final = 1200
LINE_CHARS: Final = 2000

SKIPPED: Final = frozenset({"node_modules", "__pycache__", "venv", "dist", "build"})
SECRET: Final = frozenset({".pem", ".key", ".p12", ".pfx", ".jks", ".kdbx", ".creds", ".nk"})
"""Endings of files that hold keys. Hidden files and folders are not read either."""
_HEADING: Final = re.compile(r"#{1,6}\s+(.+?)\s*#*\s*$")
_FENCE: Final = re.compile(r"\s*(```|~~~)")


@dataclass(frozen=True, slots=True)
class Passage:
    """Lines `first` to `last` (from 1, inclusive) of a file, under the heading they stand under."""

    first: int
    last: int
    text: str
    heading: str = ""


@dataclass(frozen=True, slots=True)
class Book:
    """One file: its path relative to the folder with ``/``, the hash of its bytes, its passages."""

    path: str
    hash: str
    passages: tuple[Passage, ...]


@dataclass(slots=True)
class Shelf:
    """What a folder holds. `left_out` are paths with the reason; `beyond` counts files past the bounds."""

    books: list[Book] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    beyond: int = 0


def shelve(folder: Path) -> Shelf:
    """Read every text below `folder`, in a fixed order and within the bounds. Raises OSError for the folder itself."""
    shelf = Shelf()
    passages = 0
    for path in _files(folder, shelf):
        if len(shelf.books) >= MOST_FILES or passages >= MOST_PASSAGES:
            shelf.beyond += 1
            continue
        name = path.relative_to(folder).as_posix()
        try:
            raw = _bytes(path)
        except OSError as error:
            shelf.left_out.append((name, os.strerror(error.errno or 0).lower()))
            continue
        if raw is None:
            shelf.left_out.append((name, f"larger than {MOST_BYTES // 1024} kB"))
            continue
        try:
            text = raw.decode("utf-8-sig")
            name.encode()
        except UnicodeError:
            shelf.left_out.append((ascii(name)[1:-1], "no UTF-8 text"))
            continue
        if "\0" in text:
            shelf.left_out.append((name, "no text"))
            continue
        found = tuple(split(text))[: MOST_PASSAGES - passages]
        passages += len(found)
        shelf.books.append(Book(name, hashlib.sha256(raw).hexdigest()[:16], found))
    return shelf


def split(text: str) -> Iterator[Passage]:
    """Paragraphs, gathered up to `PASSAGE_CHARS`; a heading begins a new passage. Fenced code is no heading."""
    gathered: list[str] = []
    first, heading, size, fenced = 1, "", 0, False

    def passage(last: int) -> Passage | None:
        nonlocal gathered, size
        while gathered and not gathered[-1].strip():
            gathered.pop()
        body = "\n".join(gathered)
        end = first + len(gathered) - 1
        gathered, size = [], 0
        return Passage(first, min(end, last), body, heading) if body.strip() else None

    for number, whole in enumerate(text.split("\n"), 1):
        line = whole.rstrip("\r")[:LINE_CHARS]
        fenced ^= bool(_FENCE.match(line))
        title = None if fenced else _HEADING.match(line)
        full = size + len(line) > PASSAGE_CHARS
        paragraph_ends = not line.strip() and size > PASSAGE_CHARS // 2 and not fenced
        if gathered and (title or full or paragraph_ends):
            done = passage(number - 1)
            if done is not None:
                yield done
        if title:
            heading = title[1]
        if not gathered:
            if not line.strip():
                continue
            first = number
        gathered.append(line)
        size += len(line) + 1
    done = passage(text.count("\n") + 1)
    if done is not None:
        yield done


def _files(folder: Path, shelf: Shelf) -> Iterator[Path]:
    """Regular files in a fixed order. Links are not followed, special files not opened."""
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
    for entry in entries:
        path = Path(entry.path)
        if entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in SKIPPED:
                try:
                    yield from _files(path, shelf)
                except OSError as error:
                    shelf.left_out.append((entry.name + "/", os.strerror(error.errno or 0).lower()))
        elif entry.is_file(follow_symlinks=False) and path.suffix.lower() not in SECRET:
            yield path


def _bytes(path: Path) -> bytes | None:
    """The file's bytes, or None when they are too many. What became a link or a pipe meanwhile is not opened."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(22, "not a file")
        raw = file.read(MOST_BYTES + 1)
    return raw if len(raw) <= MOST_BYTES else None
