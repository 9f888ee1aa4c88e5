"""What the fields of a plugin and of its components must be, checked when they are declared: a text where a list of
texts belongs would otherwise be taken letter by letter, and a wrong number fail a message instead of its author."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from swarm.errors import PluginError, near


class Rule(NamedTuple):
    """`says` ends the sentence ``x must be …``."""

    says: str
    holds: Callable[[Any], bool]


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


NAME: Final = Rule("a text that is not empty", lambda value: isinstance(value, str) and bool(value.strip()))
TEXT: Final = Rule("a text", lambda value: isinstance(value, str))
TEXTS: Final = Rule(
    'a list of texts, such as ["TALLY"]',
    lambda value: isinstance(value, (list, tuple)) and all(isinstance(one, str) for one in value),
)
LIST: Final = Rule("a list", lambda value: isinstance(value, (list, tuple)))
FLAG: Final = Rule("True or False", lambda value: isinstance(value, bool))
WHOLE: Final = Rule("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
SECONDS: Final = Rule(
    "a number of seconds above 0", lambda value: _number(value) and 0 < value < float("inf")
)
MAPPING: Final = Rule("a mapping", lambda value: isinstance(value, Mapping))
MODEL: Final = Rule(
    "a msgspec Struct or another class with annotated fields",
    lambda value: value is None or inspect.isclass(value),
)
LISTENERS: Final = Rule(
    "a mapping from an event's name to a list of functions",
    lambda value: (
        isinstance(value, Mapping)
        and all(isinstance(of, (list, tuple)) and all(map(callable, of)) for of in value.values())
    ),
)


def one_of(*words: str | None) -> Rule:
    said = " or ".join("None" if word is None else word for word in words)
    return Rule(said, lambda value: (value is None or isinstance(value, str)) and value in words)


def check_declared(what: str, declared: object, rules: Mapping[str, Rule]) -> None:
    """Raises PluginError, naming `what` and the field, for the first field that is not what it must be."""
    for name, rule in rules.items():
        value = getattr(declared, name)
        if not rule.holds(value):
            raise PluginError(f"{what}: {name} must be {rule.says}, not {kind_of(value)}.")


def check_fields(what: str, fields: Iterable[str], known: Iterable[str]) -> None:
    """Raises PluginError, with near names, for a field that there is not."""
    allowed = list(known)
    for name in fields:
        if name not in allowed:
            raise PluginError(f"{what} has no field {name!r}{near(name, allowed)}")


def kind_of(value: object) -> str:
    """How a sentence names a wrong value."""
    if isinstance(value, str):
        return f"the text {value[:80]!r}"
    return (
        f"{value!r}"
        if value is None or isinstance(value, (int, float))
        else f"of type {type(value).__name__}"
    )
