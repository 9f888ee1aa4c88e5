"""How plugin code is called: by the names it asks for, and what an action's own arguments mean.

An action's keyword-only arguments that are none of `HANDLER_ARGUMENTS` are its parameters. They become a
msgspec Struct, so a message's data is checked against their annotations before the handler runs:

    async def greet(message, *, name: str, times: Annotated[int, msgspec.Meta(ge=1)] = 1): ...
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

import msgspec

from swarm.errors import PluginError, near

Handler = Callable[..., Awaitable[Any]]
HANDLER_ARGUMENTS: Final = ("runtime", "message", "state", "options", "callback", "response", "responses")


class Typed(NamedTuple):
    """A handler that takes its parameters from `options`, and their type."""

    handler: Handler
    parameters: type[msgspec.Struct]


class TypedHandler:
    """Calls the author's function with what it names, its own arguments out of `options.parameters`."""

    def __init__(self, function: Handler, own: Sequence[str]) -> None:
        self.function = function
        self._own = tuple(own)
        self.given = tuple(name for name in _named(function) or () if name not in self._own)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__doc__ = function.__doc__

    async def __call__(self, **given: Any) -> Any:
        parameters = given["options"].parameters
        own = {name: getattr(parameters, name) for name in self._own}
        return await self.function(**{name: given[name] for name in self.given if name in given}, **own)


def typed_parameters(what: str, handler: Handler, declared: type[Any] | None) -> Typed | None:
    """The parameters that the handler's own signature declares, or None when it declares none.

    Raises PluginError for annotations that cannot be resolved or checked, and when both ways are used.
    """
    if not callable(handler) or isinstance(handler, TypedHandler):
        return None
    own = {
        name: parameter
        for name, parameter in inspect.signature(handler).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in HANDLER_ARGUMENTS
    }
    if not own:
        return None
    if declared is not None:
        raise PluginError(
            f"The handler of {what} declares parameters twice: `parameters={declared.__name__}` and its own "
            f"{', '.join(own)}. Keep one of the two."
        )
    hints = _hints(what, handler, own)
    fields: list[Any] = [
        (name, hints[name])
        if parameter.default is parameter.empty
        else (name, hints[name], _default(parameter.default))
        for name, parameter in own.items()
    ]
    try:
        struct = msgspec.defstruct("Parameters", fields, kw_only=True, frozen=True)
        msgspec.json.schema(struct)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PluginError(
            f"The parameters of {what} cannot be checked: {error}. Use types that JSON has, a msgspec "
            "Struct, or `parameters=` with a model."
        ) from error
    return Typed(TypedHandler(handler, tuple(own)), struct)


def is_async(handler: object) -> bool:
    """Whether calling it gives what can be awaited: an ``async def``, or an object whose ``__call__`` is one."""
    return callable(handler) and (
        inspect.iscoroutinefunction(handler)
        or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004
    )


def check_handler(what: str, handler: Handler, allowed: Sequence[str] = HANDLER_ARGUMENTS) -> None:
    """Raises PluginError for a handler that is not async or asks for what nobody can give it."""
    if not is_async(handler):
        raise PluginError(f"The handler of {what} must be an `async def` function.")
    for name, parameter in inspect.signature(handler).parameters.items():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or name == "self":
            continue
        if name not in allowed and parameter.default is parameter.empty:
            raise PluginError(
                f"The handler of {what} asks for {name!r}{near(name, allowed)} "
                f"It may name {', '.join(allowed)}."
            )


def asks_for(handler: Handler | None, name: str) -> bool:
    """Whether `handler` would be given the argument `name`."""
    if handler is None:
        return False
    if isinstance(handler, TypedHandler):
        return name in handler.given
    try:
        wanted = _named_once(handler)
    except TypeError:
        wanted = _named(handler)
    return wanted is None or name in wanted


async def call_handler(handler: Handler, given: Mapping[str, Any]) -> Any:
    """Call `handler` with those of `given` that it names."""
    try:
        wanted = _named_once(handler)
    except TypeError:  # a callable object that has no hash
        wanted = _named(handler)
    if wanted is None:
        return await handler(**given)
    return await handler(**{name: given[name] for name in wanted if name in given})


def _named(handler: Handler) -> tuple[str, ...] | None:
    """The names of the handler's arguments; None when it takes whatever there is."""
    parameters = inspect.signature(handler).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return None
    return tuple(parameters)


_named_once = lru_cache(maxsize=2048)(_named)
"""Reading a signature takes longer than most calls; a handler's never changes."""


def _hints(what: str, handler: Handler, own: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """The types of the own arguments alone: the others may be importable to type checkers only."""
    annotations = {
        name: parameter.annotation if parameter.annotation is not parameter.empty else Any
        for name, parameter in own.items()
    }
    function = inspect.unwrap(handler)
    if not hasattr(function, "__globals__"):
        function = getattr(function, "__func__", None) or type(function).__call__
    cells = dict(
        zip(
            function.__code__.co_freevars, (c.cell_contents for c in function.__closure__ or ()), strict=False
        )
    )
    try:
        return typing.get_type_hints(
            SimpleNamespace(__annotations__=annotations),
            globalns={**getattr(function, "__globals__", {}), **cells},
            include_extras=True,
        )
    except NameError as error:
        raise PluginError(
            f"The parameters of {what} cannot be read: {error}. Define that type at the top of the file, "
            "and not under TYPE_CHECKING."
        ) from error


def _default(value: Any) -> Any:
    """A default that no two calls share: mutable ones are made anew each time."""
    if isinstance(value, (list, dict, set)):
        kind = type(value)
        return msgspec.field(default_factory=lambda: kind(value))
    return value
