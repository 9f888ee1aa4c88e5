"""The glossary's words are those of the code: each table, column, function, name, subject and command exists."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from deploy.cli import COMMANDS

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (?P<word>[^|]+?) \| (?P<sentence>[^|]+?) \| (?P<where>[^|]+?) \|$")
_PLACE = re.compile(r"`([a-z]+):([^`]+)`")


class Word(NamedTuple):
    word: str
    sentence: str
    places: tuple[tuple[str, str], ...]


def words() -> list[Word]:
    found = []
    for line in (ROOT / "docs/glossary.md").read_text().splitlines():
        row = _ROW.match(line)
        if row and row["word"] not in ("word", "---"):
            found.append(Word(row["word"], row["sentence"], tuple(_PLACE.findall(row["where"]))))
    return found


WORDS = words()


@cache
def schema() -> tuple[dict[str, set[str]], set[str]]:
    """The tables and views with the columns that are spelled out, and the names of functions and indexes."""
    tables: dict[str, set[str]] = {}
    names: set[str] = set()
    for file in sorted((ROOT / "swarm/sql/migrations").glob("*.sql")):
        text = file.read_text()
        for name, body in re.findall(r"^create (?:unlogged )?table (\w+) \((.*?)^\)", text, re.M | re.S):
            tables[name] = set(re.findall(r"^    (\w+) +[a-z]", body, re.M))
        for name, column in re.findall(r"^alter table (\w+) add column (\w+)", text, re.M):
            tables[name].add(column)
        for name in re.findall(r"^create view (\w+)", text, re.M):
            tables.setdefault(name, set())
        names |= set(re.findall(r"^create (?:unique )?(?:index|function) (\w+)", text, re.M))
    return tables, names


def places(kind: str) -> list[tuple[str, str]]:
    return [(word.word, place) for word in WORDS for found, place in word.places if found == kind]


def test_every_word_has_a_sentence_and_a_place_of_a_known_kind() -> None:
    assert len(WORDS) >= 50
    for word in WORDS:
        assert len(word.sentence.split()) >= 3, word.word
        assert word.places, word.word
        assert {kind for kind, _ in word.places} <= {"sql", "py", "subject", "cli"}, word.word


def test_no_word_stands_twice() -> None:
    names = [word.word for word in WORDS]
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize(("word", "place"), places("sql"))
def test_a_word_of_the_database_is_in_the_schema(word: str, place: str) -> None:
    tables, names = schema()
    table, _, column = place.partition(".")
    if column:
        assert column in tables.get(table, set()), f"{word}: there is no column {place}"
    else:
        assert place in tables or place in names, f"{word}: nothing in the schema is called {place}"


@pytest.mark.parametrize(("word", "place"), places("py"))
def test_a_word_of_python_is_in_its_module(word: str, place: str) -> None:
    module, _, name = place.partition(":")
    path = ROOT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    assert file.is_file(), f"{word}: there is no module {module}"
    if name:
        assert name in _names_of(file), f"{word}: {module} has no {name}"


@pytest.mark.parametrize(("word", "place"), places("cli"))
def test_a_word_of_the_command_line_is_a_command(word: str, place: str) -> None:
    assert place in COMMANDS, f"{word}: there is no command {place}"


@pytest.mark.parametrize(("word", "place"), places("subject"))
def test_a_word_of_the_wire_is_in_a_subject(word: str, place: str) -> None:
    spelled = ast.get_docstring(ast.parse((ROOT / "bus/subjects.py").read_text())) or ""
    assert f"<swarm>.{place}" in spelled.split(), f"{word}: no subject is <swarm>.{place}"


def test_every_table_and_every_command_that_people_see_is_in_the_glossary() -> None:
    tables, _ = schema()
    named = {place.partition(".")[0] for _, place in places("sql")}
    assert set(tables) <= named, "a table without a word"
    commands = {place for _, place in places("cli")}
    assert set(COMMANDS) - commands <= {"init", "logs", "config"}, "a command without a word"


def _names_of(file: Path) -> set[str]:
    """What a module defines or imports at its top."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Assign(targets=targets):
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
            case ast.ImportFrom(names=imported):
                names |= {one.asname or one.name for one in imported}
    return names
