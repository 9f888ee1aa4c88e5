"""SQL lives in swarm/sql/*.sql, where it can be read, searched and planned; Python only names a statement.

Exceptions have a reason: a name that cannot be a parameter must be composed, and what makes the first table
cannot be in a migration.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.tree import PACKAGES, modules, texts

SQL = re.compile(
    r"""^\s*(?:
        select\s+(?:.+\sfrom\s|\w+\s*\(|\d|exists\b|\*)
        | insert\s+into\s | update\s+\S+\s+set\s | delete\s+from\s | truncate\s | merge\s+into\s
        | (?:create|alter|drop)\s+(?:or\s+replace\s+)?(?:temp\s+|unique\s+)?
          (?:table|schema|role|user|index|view|function|type|database|policy|trigger|extension|sequence)\b
        | (?:grant|revoke)\s.+\s(?:to|from|on)\s
        | with\s+(?:recursive\s+)?\w+\s*(?:\([^)]*\)\s*)?as\s+(?:materialized\s+)?\(
        | set\s+\w+\s*=\s | set\s+(?:local|session|role|search_path)\s
        | (?:listen|notify|vacuum|lock\s+table)\s+\w+\s*;?$
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

ALLOWED = {
    "swarm/stores/postgres/migrations.py": "composes the schema's name; keeps the table of what was applied",
    "swarm/stores/postgres/ledger.py": "takes the time limit off the connection that migrates",
}


def test_no_sql_in_python() -> None:
    seen = set()
    for path, module in modules(*PACKAGES, "agents").items():
        for line, text in texts(module):
            if SQL.search(text):
                assert path in ALLOWED, f"{path}:{line} has SQL: {text[:60]!r}; move it to swarm/sql"
                seen.add(path)
    assert seen == set(ALLOWED), "these have no SQL any more; take them from the list"


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "SELECT id, name FROM agents",
        "\n  insert into messages (id) values ($1)",
        "update agents set status = 'x'",
        "delete from tasks",
        "create unique index on t (a)",
        "with due as (select 1) select 2",
        "set local search_path to {}, pg_temp",
        "set statement_timeout = 0",
        "listen bells",
    ],
)
def test_it_would_catch(text: str) -> None:
    assert SQL.search(next(texts(ast.parse(repr(text) + " + x")))[1])


@pytest.mark.parametrize(
    "text",
    ["With `wait` seconds, at its end", "select an agent", "Set it to a number.", "create a table", "update it",
     "drop a dead letter", "grant rights"],
)  # fmt: skip
def test_it_lets_prose_pass(text: str) -> None:
    assert not SQL.search(text)
