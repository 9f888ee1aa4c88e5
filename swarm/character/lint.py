"""What a careful reader would say about a character file: `swarm character lint` and `show`.

error     it does not load
warning   it loads, but not as its author meant
info      worth knowing
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from bus.errors import BusError
from swarm.character.document import FIELDS, KNOWN_KEYS, STYLE_KEYS
from swarm.character.loading import Source, load_character, read_document
from swarm.character.plugins import plugin_kind, plugin_warnings, provider_hint
from swarm.character.secrets import find_secrets
from swarm.character.validation import validate_character
from swarm.errors import SwarmError

Level = Literal["error", "warning", "info"]


class Finding(NamedTuple):
    """`text` is a sentence without a full stop; `where` a path into the document, or empty."""

    level: Level
    text: str
    where: str = ""


async def lint(source: str) -> tuple[list[Finding], int]:
    """The findings, worst first, and an exit code: 1 when there is an error, else 0."""
    findings = await lint_character(source)
    return findings, int(any(finding.level == "error" for finding in findings))


async def show(source: str) -> dict[str, Any]:
    """The document as it would be stored (defaults filled in, no secrets) with its version. Raises CharacterError."""
    character = await load_character(source)
    return {"version": character.version, "character": character.public()}


async def lint_character(source: Source, **options: Any) -> list[Finding]:
    """The findings about a source, worst first. `options` are `load_character`'s. Never raises for its content."""
    try:
        document = await read_document(source, **options)
    except (SwarmError, BusError) as error:
        return [Finding("error", error.text.removesuffix("."))]
    order: tuple[Level, ...] = ("error", "warning", "info")
    return sorted(lint_document(document), key=lambda finding: order.index(finding.level))


def lint_document(document: Mapping[str, Any]) -> Iterator[Finding]:
    checked = validate_character(document)
    for error in checked.errors:
        yield Finding("error", error, _place(error))
    for key in (key for key in document if isinstance(key, str)):
        yield from _key(key)
    if checked.valid:
        yield from _secrets(document)
        yield from _plugins(document.get("plugins") or [])
        yield from _style(document.get("style") or {})
        yield from _generation(document)
        yield from _substance(document)


def _place(error: str) -> str:
    """The path that a validation's sentence begins with, if it does."""
    first = error.split(" ", 1)[0]
    return first if re.split(r"[.\[]", first, maxsplit=1)[0] in KNOWN_KEYS else ""


def _key(key: str) -> Iterator[Finding]:
    if key in KNOWN_KEYS:
        return
    if key in FIELDS:
        yield Finding("info", f"in files this key is spelled {FIELDS[key]}", key)
        return
    lowered = {known.lower(): known for known in KNOWN_KEYS}
    close = get_close_matches(key.lower().replace("_", ""), lowered, n=1, cutoff=0.8)
    if close:
        yield Finding(
            "warning", f"this key is not known and kept as it is; did you mean {lowered[close[0]]}?", key
        )


def _style(style: Mapping[str, Any]) -> Iterator[Finding]:
    for key in style:
        if key not in STYLE_KEYS:
            close = get_close_matches(key.lower(), STYLE_KEYS, n=1, cutoff=0.5)
            hint = f"; did you mean {close[0]}?" if close else f"; the known ones are {', '.join(STYLE_KEYS)}"
            yield Finding("warning", f"this style is kept but not used{hint}", f"style.{key}")


def _secrets(document: Mapping[str, Any]) -> Iterator[Finding]:
    for where, why in find_secrets(document):
        yield Finding(
            "warning", f"{why}: move it to secrets or to the environment, and change it if shared", where
        )
    settings = document.get("settings") or {}
    for where, secrets in (
        ("secrets", document.get("secrets")),
        ("settings.secrets", settings.get("secrets")),
    ):
        for key, value in (secrets or {}).items():
            if isinstance(value, str) and value and not value.startswith(("${", "{{")):
                yield Finding(
                    "info", "a secret in a file travels with it; the environment keeps it", f"{where}.{key}"
                )


def _plugins(names: list[str]) -> Iterator[Finding]:
    from importlib.metadata import entry_points  # 20 ms, for lint alone

    installed = sorted(point.name for point in entry_points(group="swarm.plugins"))
    for number, name in enumerate(names):
        where = f"plugins[{number}]"
        match plugin_kind(name):
            case "provider":
                yield Finding(
                    "info", f"{name} is read as a hint: model provider {provider_hint(name)}", where
                )
            case "foreign":
                yield from (Finding("warning", text, where) for text in plugin_warnings([name]))
            case "own" if name not in installed:
                close = get_close_matches(name, installed, n=1, cutoff=0.6)
                hint = f"did you mean {close[0]}?" if close else "it must come from the agent's own plugin.py"
                yield Finding("warning", f"no installed plugin is named {name}; {hint}", where)
            case "own" | "builtin":
                pass


def _generation(document: Mapping[str, Any]) -> Iterator[Finding]:
    for key in ("clients", "modelProvider"):
        if document.get(key):
            yield Finding("info", "this key of elizaOS v0 is kept and has no effect here", key)


def _substance(document: Mapping[str, Any]) -> Iterator[Finding]:
    if not document.get("messageExamples", document.get("message_examples")):
        yield Finding(
            "info", "without examples the built-in model has no answers of its own", "messageExamples"
        )
    if not document.get("system"):
        yield Finding("info", "without a system text the prompt begins with the bio", "system")
    for key in ("topics", "adjectives"):
        doubles = [item for item, count in Counter(document.get(key) or []).items() if count > 1]
        if doubles:
            yield Finding("info", f"listed more than once: {', '.join(doubles)}", key)
