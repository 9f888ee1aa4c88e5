"""How results look: JSON for programs, plain aligned columns for people, colour only where a person looks."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TextIO

COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
STATUS_COLOURS: Final = {
    "ready": 32,
    "handled": 32,
    "completed": 32,
    "starting": 33,
    "draining": 33,
    "absent": 90,
    "asleep": 90,
    "quarantined": 31,
    "dead": 31,
    "failed": 31,
    "expired": 31,
}


def put_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, default=str))


def put_json_lines(values: Iterable[Any]) -> None:
    """One object a line: a list of any length can be read as it comes."""
    for value in values:
        put_json(value)


def colourful(stream: TextIO) -> bool:
    """Whether a person looks at this stream and wants colour."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def paint(text: str, colour: int, stream: TextIO | None = None) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colourful(stream or sys.stdout) else text


def name_colour(name: str) -> int:
    """The same colour for the same name each time."""
    return COLOURS[sum(name.encode()) % len(COLOURS)]


def put_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """Columns as wide as they must be; numbers to the right; nothing that a pipe could not read."""
    cells = [[cell(row.get(name)) for name in columns] for row in rows]
    heads = [name.upper().replace("_", " ") for name in columns]
    widths = [max(len(head), *(len(row[i]) for row in cells), 0) for i, head in enumerate(heads)]
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    print(_line(heads, widths, right))
    for row in cells:
        line = _line(row, widths, right)
        for word, colour in STATUS_COLOURS.items():
            if word in row:
                line = line.replace(f"  {word}", f"  {paint(word, colour)}", 1)
                break
        print(line)


def cell(value: Any) -> str:
    """A value in a column: one line, no control characters."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list() | tuple():
            return ",".join(map(str, value)) or "-"
    text = str(value)
    return "".join(character if character.isprintable() else " " for character in text)


def _line(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        text.rjust(width) if to_right else text.ljust(width)
        for text, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "", 1).isdigit()


def ago(milliseconds: int | float | None) -> str:
    """How long ago a moment was, in one unit."""
    import time

    if milliseconds is None:
        return "-"
    return span(max(0.0, time.time() - milliseconds / 1000))


def span(seconds: float) -> str:
    for bound, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < bound:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
