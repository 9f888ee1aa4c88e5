"""The contract of tracing, and the tracer of whoever records nothing.

Names and attributes follow OpenTelemetry's conventions for messaging (``publish …``, ``process …``) and generative
AI (``invoke_agent``, ``execute_tool``, ``chat``). Contents of messages are never attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Final, Literal, Protocol

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Value = str | int | float | bool
Attributes = Mapping[str, Value]

_current: ContextVar[str | None] = ContextVar("swarm_traceparent", default=None)


def current_traceparent() -> str | None:
    """Of the span that surrounds the caller, to be sent along with what it says to others."""
    return _current.get()


class Span(Protocol):
    @property
    def traceparent(self) -> str | None: ...

    def set(self, attributes: Attributes) -> None: ...

    def fail(self, why: str) -> None:
        """Mark it as an error; `why` is a short word such as a class's name, never a message's text."""


class Tracer(Protocol):
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        *,
        parent: str | None = None,
    ) -> AbstractContextManager[Span]:
        """A span around what runs inside; below `parent` (a traceparent), else below the one that surrounds it.
        What escapes from inside marks it as failed and escapes further."""


class PassedOn:
    """No span: what came in goes out."""

    __slots__ = ("traceparent",)

    def __init__(self, traceparent: str | None) -> None:
        self.traceparent = traceparent

    def set(self, attributes: Attributes) -> None:
        pass

    def fail(self, why: str) -> None:
        pass


class Untraced:
    """Records nothing and passes everything on. Costs a context variable."""

    @contextmanager
    def span(
        self,
        name: str,
        kind: Kind = "internal",
        attributes: Attributes | None = None,
        *,
        parent: str | None = None,
    ) -> Iterator[Span]:
        if parent is None:
            yield PassedOn(_current.get())
            return
        with surrounded_by(parent):
            yield PassedOn(parent)


@contextmanager
def surrounded_by(traceparent: str | None) -> Iterator[None]:
    """What is said to others inside belongs to that span."""
    token = _current.set(traceparent)
    try:
        yield
    finally:
        _current.reset(token)


UNTRACED: Final = Untraced()
