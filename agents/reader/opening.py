"""A file as it is on disk, opened with care: what kind of thing it is, and a bounded piece of it.

Anything may lie under a name: a pipe that never ends, a device that acts when it is opened, a link that
leads elsewhere, a file that is gone by now. Each becomes a `Piece` with a state and a sentence, never
an exception. Nothing but a regular file is ever opened.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote_to_bytes

WHOLE_LIMIT: Final = 2_000_000
"""Bytes up to which a file is read whole; of a larger one only `HEAD` and `TAIL` are."""
HEAD: Final = 192_000
TAIL: Final = 16_000

FileState = Literal["read", "sampled", "empty", "binary", "unreadable", "gone", "link", "special", "folder"]


@dataclass(frozen=True, slots=True)
class Piece:
    """`head` is the whole file when `state` is ``read``, its first bytes when ``sampled``. `size` in bytes."""

    state: FileState
    size: int = 0
    head: bytes = b""
    tail: bytes = b""
    reason: str = ""


def from_wire(path: str) -> str:
    """The path of this machine: as it stands, or from a ``file:`` URI, which is how a name that is not
    UTF-8 travels (messages are UTF-8 throughout, file names are any bytes)."""
    if path.startswith("file:"):
        return os.fsdecode(unquote_to_bytes(path.removeprefix("file://").removeprefix("file:")))
    return path


def open_piece(path: str) -> Piece:
    """Look first, then open: opening a device or a pipe can already do something."""
    try:
        found = os.lstat(path)
        refusal = _refusal(found.st_mode)
        return refusal if refusal is not None else _read(path)
    except (OSError, ValueError) as error:
        return _failure(error)


def _read(path: str) -> Piece:
    # The name may have been given to something else since we looked: O_NOFOLLOW and O_NONBLOCK make the
    # opening harmless then, and the open file itself is asked what it is.
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(file.fileno())
        refusal = _refusal(found.st_mode)
        if refusal is not None:
            return refusal
        head = file.read(WHOLE_LIMIT + 1 if found.st_size <= WHOLE_LIMIT else HEAD)
        if not head:
            return Piece("empty", reason="The file is empty.")
        if len(head) <= WHOLE_LIMIT and found.st_size <= WHOLE_LIMIT:
            return Piece("read", len(head), head)
        size = max(found.st_size, len(head))
        file.seek(max(size - TAIL, HEAD))
        return Piece(
            "sampled",
            size,
            head[:HEAD],
            file.read(TAIL),
            f"Only its first {HEAD // 1000} kB and its last {TAIL // 1000} kB were read: it is large.",
        )


def _refusal(mode: int) -> Piece | None:
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISLNK(mode):
        return Piece("link", reason="It is a symbolic link, and links are not followed.")
    if stat.S_ISDIR(mode):
        return Piece("folder", reason="It is a folder; name a file in it.")
    return Piece("special", reason=f"It is {special_kind(mode)}, not a file; it was not opened.")


def special_kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"


def _failure(error: OSError | ValueError) -> Piece:
    if isinstance(error, ValueError):
        return Piece("unreadable", reason="This cannot be the name of a file.")
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            return Piece("gone", reason="There is no such file (any more).")
        case errno.EACCES | errno.EPERM:
            return Piece("unreadable", reason="Permission denied: its owner does not let us read it.")
        case errno.ELOOP:
            return Piece("link", reason="It is a symbolic link, and links are not followed.")
        case errno.ENAMETOOLONG:
            return Piece("unreadable", reason="Its name is too long for this file system.")
    return Piece("unreadable", reason=f"It could not be read: {os.strerror(error.errno or 0)}.")
