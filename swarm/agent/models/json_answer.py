"""The JSON value in a model's answer, though it stands in a fence, after thoughts or among prose."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

_THOUGHTS: Final = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_FENCE: Final = re.compile(r"```[\w-]*\s*\n?(.*?)```", re.DOTALL)
_MOST_STARTS: Final = 50
"""Places where a value might begin that are tried; an answer of braces only must not take minutes."""


class NoJson(ValueError):
    """The text holds no JSON value of the shape asked for. Its text says what is missing."""


def without_thoughts(text: str) -> str:
    """The answer proper of a model that thinks aloud first."""
    return _THOUGHTS.sub("", text).strip()


def find_json(text: str, schema: Mapping[str, Any] | None = None) -> Any:
    """The first JSON value in `text` that has the schema's outer type and required keys.

    The whole text is tried first, then fenced blocks, then every ``{`` and ``[``. Raises NoJson.
    """
    answer = without_thoughts(text)
    complaint = "it holds no JSON"
    for piece in (answer, *(match.group(1) for match in _FENCE.finditer(answer))):
        try:
            value = json.loads(piece)
        except (ValueError, RecursionError):
            continue
        complaint = misfit(value, schema)
        if not complaint:
            return value
    decoder = json.JSONDecoder()
    at = 0
    for _ in range(_MOST_STARTS):
        starts = [place for place in (answer.find("{", at), answer.find("[", at)) if place >= 0]
        if not starts:
            break
        at = min(starts)
        try:
            value, at = decoder.raw_decode(answer, at)
        except (ValueError, RecursionError):
            at += 1
            continue
        complaint = misfit(value, schema)
        if not complaint:
            return value
    raise NoJson(complaint)


def misfit(value: Any, schema: Mapping[str, Any] | None) -> str:
    """What is wrong with the outer shape of a value, or "". Deeper checks are the asker's."""
    if not schema:
        return ""
    wanted = schema.get("type")
    kinds: dict[str, type | tuple[type, ...]] = {"object": dict, "array": list, "string": str}
    if isinstance(wanted, str) and wanted in kinds and not isinstance(value, kinds[wanted]):
        return f"it is no JSON {wanted}"
    if isinstance(value, dict):
        missing = [key for key in schema.get("required", ()) if key not in value]
        if missing:
            return f"it lacks {', '.join(map(str, missing))}"
    return ""
