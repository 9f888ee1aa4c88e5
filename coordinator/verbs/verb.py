"""A verb: the struct of its arguments and the method that does it.

The shape of an answer is what the command line prints; it stands in the docstring of each method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

Wait = Annotated[float, Meta(ge=0, le=86_400)]
"""Seconds."""
Limit = Annotated[int, Meta(ge=0, le=1000)]
Text = Annotated[str, Meta(max_length=1_000_000)]


class Args(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The arguments of a verb; an unknown one is an error."""


class NoArgs(Args):
    pass


class IdArgs(Args):
    id: str


Verbs = Mapping[str, tuple[type[Args], Callable[[Any], Awaitable[Any]]]]
