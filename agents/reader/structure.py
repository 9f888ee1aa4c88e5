"""What a file consists of: its classes and functions, headings, tables or keys, in order.

Python is read by `ast`, data by its own parser, all else by the definitions and headings that its
pygments lexer marks. A file that does not parse still has the structure its lexer sees.
"""

from __future__ import annotations

import ast
import csv
import json
import threading
import tomllib
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pygments.token import Generic, Keyword, Name, Token

PARSE_LIMIT: Final = 600_000
"""Characters up to which data is parsed; parsers of data take time and memory many times its size."""
_YAML_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Python reports odd escapes in the *parsed* file as warnings, and silencing warnings is process-wide.
_AST_LOCK: Final = threading.Lock()
_INTRODUCING: Final = {
    "class": "class", "interface": "interface", "struct": "struct", "enum": "enum", "trait": "trait",
    "function": "function", "func": "function", "fn": "function", "type": "type",
}  # fmt: skip

Tokens = Iterable[tuple[int, Any, str]]


@dataclass(frozen=True, slots=True)
class Part:
    """`kind` is a word for people (class, function, heading, key …), `depth` 0 at the top."""

    kind: str
    name: str
    depth: int = 0
    detail: str = ""


def structure_of(language: str, text: str, tokens: Tokens) -> tuple[list[Part], str]:
    """The parts, and a sentence if the file does not parse as what it says it is."""
    parsers = {
        "Python": _python,
        "JSON": _json,
        "Jupyter notebook": _notebook,
        "TOML": _toml,
        "YAML": _yaml,
        "CSV": _table,
        "TSV": _table,
    }
    parse = parsers.get(language)
    if parse is not None and len(text) <= PARSE_LIMIT:
        try:
            return list(parse(text)), ""
        except (ValueError, SyntaxError, yaml.YAMLError, csv.Error, RecursionError, MemoryError) as error:
            return list(marked(tokens)), f"It does not parse as {language}{_place(error)}."
    return list(marked(tokens)), ""


def marked(tokens: Tokens) -> Iterator[Part]:
    """Definitions and headings as the lexer marks them, each once. Where it marks none, as for JavaScript,
    the name that follows ``class`` or ``function`` is one."""
    seen: set[tuple[str, str]] = set()
    introduced = ""
    for _, kind, value in tokens:
        word = _word(kind) or (introduced if kind in Name else "")
        name = value.strip().lstrip("#=").strip()
        if name:
            introduced = _INTRODUCING.get(name, "") if kind in Keyword else ""
        if word and name and (word, name) not in seen:
            seen.add((word, name))
            yield Part(word, name, 1 if kind in Generic.Subheading else 0)


def _word(kind: Any) -> str:
    if kind is Token.Text:
        return ""
    if kind in Generic.Heading or kind in Generic.Subheading:
        return "heading"
    if kind in Name.Class:
        return "class"
    return "function" if kind in Name.Function else ""


def _place(error: BaseException) -> str:
    line = getattr(error, "lineno", None)
    if line is None and getattr(error, "problem_mark", None) is not None:
        line = error.problem_mark.line + 1  # type: ignore[attr-defined]
    if isinstance(error, RecursionError | MemoryError):
        return ": it is nested too deeply"
    return f" (line {line})" if line else ""


def _python(text: str) -> Iterator[Part]:
    with _AST_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = ast.parse(text)
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            yield Part("class", node.name)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield Part("method", inner.name, 1)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Part("function", node.name)


def _json(text: str) -> Iterator[Part]:
    lines = text.split("\n", 2)
    try:
        value = json.loads(text)
    except ValueError:
        first = json.loads(lines[0])  # one object a line is JSON to people, too
        yield from _keys(first)
        return
    yield from _keys(value)


def _keys(value: Any) -> Iterator[Part]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield Part("key", str(key), detail=_shape(inner))
    elif isinstance(value, list):
        yield Part("list", f"{len(value)} items", detail=_shape(value[0]) if value else "")


def _shape(value: Any) -> str:
    match value:
        case dict():
            return f"{len(value)} keys"
        case list():
            return f"{len(value)} items"
    return ""


def _notebook(text: str) -> Iterator[Part]:
    book = json.loads(text)
    cells = book.get("cells", []) if isinstance(book, dict) else []
    for cell in cells if isinstance(cells, list) else []:
        source = cell.get("source", "") if isinstance(cell, dict) else ""
        lines = source if isinstance(source, list) else str(source).splitlines()
        if isinstance(cell, dict) and cell.get("cell_type") == "markdown":
            for line in lines:
                if str(line).startswith("#"):
                    yield Part("heading", str(line).lstrip("#").strip())


def _toml(text: str) -> Iterator[Part]:
    for key, value in tomllib.loads(text).items():
        yield Part("table" if isinstance(value, dict) else "key", key, detail=_shape(value))
        if isinstance(value, dict):
            for inner, below in value.items():
                if isinstance(below, dict):
                    yield Part("table", f"{key}.{inner}", 1, _shape(below))


def _yaml(text: str) -> Iterator[Part]:
    """The keys of each document's top, from the stream of events: no tag is honoured, no alias unfolded, and
    nothing recurses (the C composer overflows the stack, and ends the process, on a deeply nested file)."""
    depth = place = 0
    mapping = False
    for event in yaml.parse(text, Loader=_YAML_LOADER):
        opens = isinstance(event, yaml.CollectionStartEvent)
        if opens or isinstance(event, yaml.ScalarEvent | yaml.AliasEvent):
            if depth == 0:
                mapping, place = isinstance(event, yaml.MappingStartEvent), 0
            elif depth == 1:
                place += 1
                if mapping and place % 2 == 1 and isinstance(event, yaml.ScalarEvent):
                    yield Part("key", event.value)
        if opens:
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 0 and not mapping:
                yield Part("list", f"{place} items")


def _table(text: str) -> Iterator[Part]:
    dialect = csv.Sniffer().sniff(text[:8192], delimiters=",;\t|")
    header = next(csv.reader(text.splitlines()[:1], dialect), [])
    for column in header:
        yield Part("column", column.strip())
