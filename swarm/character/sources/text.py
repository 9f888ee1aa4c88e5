"""Text to a document: JSON, TOML and YAML. A malformed text's error names its source and line.

YAML is read by its safe loader under JSON's rules: aliases are refused (a page of them unfolds to more
than any machine has), `yes`, `on` and dates stay text, and depth is bounded before anything is built.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any, Final, Literal

from swarm.character.document import MAX_DEPTH, kind_of
from swarm.errors import CharacterError

Format = Literal["json", "toml", "yaml"]
FORMATS: Final[dict[str, Format]] = {".json": "json", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}


def parse(octets: bytes, format: Format, source: str) -> dict[str, Any]:
    """The document in these octets (UTF-8). Raises CharacterError, one sentence with the source and line."""
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise _malformed(source, line, "it is not UTF-8 text") from None
    try:
        value = _PARSERS[format](text, source)
    except RecursionError:
        raise CharacterError(f"{source} is nested deeper than {MAX_DEPTH} levels.") from None
    if not isinstance(value, dict):
        raise CharacterError(f"{source} must hold a table of keys, not {kind_of(value)}.")
    return value


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise _malformed(source, error.lineno, f"{error.msg} (column {error.colno})") from None
    except ValueError as error:  # a number with thousands of digits
        raise CharacterError(f"{source} is not valid JSON: {error}.") from None


def _toml(text: str, source: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        if place is None:
            raise CharacterError(f"{source} is not valid TOML: {error}.") from None
        line = int(place[1]) if place[1] else text.count("\n") + 1
        problem = str(error)[: place.start()] + (f" (column {place[2]})" if place[2] else " (end of file)")
        raise _malformed(source, line, problem) from None
    except ValueError as error:  # a number with thousands of digits, a date that is none
        raise CharacterError(f"{source} is not valid TOML: {error}.") from None


def _yaml(text: str, source: str) -> Any:
    from swarm.character.sources.yaml_loader import Trouble, load_yaml

    try:
        return load_yaml(text)
    except Trouble as trouble:
        raise _malformed(source, trouble.line, trouble.problem) from None


def _malformed(source: str, line: int, problem: str) -> CharacterError:
    return CharacterError(f"{source}, line {line}: {problem}.", reason="malformed")


_PARSERS = {"json": _json, "toml": _toml, "yaml": _yaml}
