"""Subjects are spelled in bus/subjects.py, and as patterns of rights in bus/permissions.py; nowhere else.

A subject that is put together somewhere else is one that a change of the tree of subjects forgets, and one whose
sender nobody checked.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.architecture.tree import PACKAGES, modules, texts

HOMES = {"bus/subjects.py", "bus/permissions.py"}
SUBJECT = re.compile(
    r"_INBOX|(?:^|[\w}*>])\.(?:up|down|node|ctl)\.[\w{*>]|^(?:up|down|node|ctl)\.[{*>]|\}\.all$"
)


def spelled(source: str) -> list[str]:
    return [text for _, text in texts(ast.parse(source)) if SUBJECT.search(text)]


def test_no_subject_is_put_together_elsewhere() -> None:
    for path, module in modules(*PACKAGES, "agents").items():
        if path in HOMES:
            continue
        for line, text in texts(module):
            assert not SUBJECT.search(text), f"{path}:{line} spells a subject: {text!r}; use bus.subjects"


@pytest.mark.parametrize(
    "source",
    [
        'f"{swarm}.up.{agent}.{verb}"',
        'f"{swarm}.down.{agent}.>"',
        '"survey.ctl.operator.ps"',
        'swarm + ".node.*.up.beat"',
        'f"_INBOX.{name}.x"',
        'f"{swarm}.all"',
        '"ctl.{}.{}".format(a, b)',
    ],
)
def test_it_would_catch(source: str) -> None:
    assert spelled(f"x = {source}")


@pytest.mark.parametrize(
    "source", ['f"{name} came up. {more}"', '"down.sql"', '"""a.up.b.c"""', '"node.json"']
)
def test_it_lets_pass(source: str) -> None:
    assert not spelled(source)
