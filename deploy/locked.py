"""The part of requirements.lock that an image needs: `python locked.py requirements.lock ROOT…` prints it.

A ROOT is a package, or ``.`` for what the project asks for (with all extras), or ``.GROUP`` for one of its
dependency groups. With them comes what they need, read from the comments (``# via``) that the lock's compiler
wrote. ``-ROOT`` leaves a package out, with what only it needs. Standard library only: it runs before anything
is installed.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==")
_VIA = re.compile(r"^    # +(?:via +)?(\S.*)$", re.MULTILINE)
_PROJECT = re.compile(r"\S+ \(pyproject\.toml(?::(\w[\w-]*))?\)")


class Pin(NamedTuple):
    """One version of one package: its lines, and who asks for it (names, ``.`` or ``.GROUP``)."""

    name: str
    text: str
    asked_by: frozenset[str]


def read_lock(text: str) -> list[Pin]:
    """Raises ValueError for a pin that nobody asks for: then the comments are not there to be read."""
    pins = []
    for block in re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE):
        if found := _PIN.match(block):
            asked_by = frozenset(_asker(line) for line in _VIA.findall(block) if line != "via")
            if not asked_by:
                raise ValueError(f"the lock does not say who needs {found[1]}; compile it with annotations")
            pins.append(Pin(found[1], block, asked_by))
    return pins


def _asker(line: str) -> str:
    project = _PROJECT.fullmatch(line)
    return line if project is None else f".{project[1] or ''}"


def select(pins: Sequence[Pin], roots: Sequence[str]) -> list[Pin]:
    """The pins of `roots` and of what they need. Raises ValueError for a root that is not in the lock."""
    without = {root[1:] for root in roots if root.startswith("-")}
    wanted = {root for root in roots if not root.startswith("-")}
    known = {pin.name for pin in pins}.union(*(pin.asked_by for pin in pins))
    if unknown := sorted((wanted | without) - known):
        raise ValueError(f"{', '.join(unknown)} is not in the lock")
    while more := {pin.name for pin in pins if pin.asked_by & wanted and pin.name not in wanted | without}:
        wanted |= more
    return [pin for pin in pins if pin.name in wanted]


def main(arguments: Sequence[str]) -> int:
    if len(arguments) < 2:
        print("usage: python locked.py requirements.lock ROOT…", file=sys.stderr)
        return 2
    try:
        chosen = select(read_lock(Path(arguments[0]).read_text("utf-8")), arguments[1:])
    except (OSError, ValueError) as error:
        print(f"locked: {error}", file=sys.stderr)
        return 1
    sys.stdout.write("".join(pin.text for pin in chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
