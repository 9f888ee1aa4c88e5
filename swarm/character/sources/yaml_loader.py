"""YAML under JSON's rules. Imported only for a YAML file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from swarm.character.document import MAX_DEPTH

try:
    from yaml import CSafeLoader as _Base
except ImportError:  # PyYAML built without libyaml: slower, the same language
    from yaml import SafeLoader as _Base  # type: ignore[assignment]


class Trouble(Exception):
    """A text that is not our YAML, with the line it is on."""

    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


class _Loader(_Base):
    """The safe loader, with implicit types of JSON only: `yes`, `012`, `12:30` and dates are text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own attribute)


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", list("tf")),
    ("int", r"-?(?:0|[1-9][0-9]*)", list("-0123456789")),
    ("float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", list("-0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def load_yaml(text: str) -> Any:
    """The one document of a YAML text. Raises Trouble."""
    try:
        _refuse_bombs(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe loader, narrowed)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Trouble(error.problem or "it is not valid YAML", mark.line + 1 if mark else 1) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Trouble("it contains a character that YAML does not allow", line) from None
    except (yaml.YAMLError, ValueError) as error:
        raise Trouble(f"it is not valid YAML ({error})", 1) from None


def _refuse_bombs(text: str) -> None:
    """Go through the events, which costs no memory, before any value is built."""
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        line = event.start_mark.line + 1 if event.start_mark else 1
        match event:
            case yaml.AliasEvent():
                raise Trouble(f"the alias *{event.anchor} is not allowed; write the value again", line)
            case yaml.CollectionStartEvent():
                depth += 1
                if depth > MAX_DEPTH:
                    raise Trouble(f"it is nested deeper than {MAX_DEPTH} levels", line)
            case yaml.CollectionEndEvent():
                depth -= 1
