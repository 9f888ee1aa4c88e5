"""A plugin: a name and what it brings. Written as one value, or grown by decorators:

plugin = Plugin("counter")

@plugin.action(similes=["TALLY"])
async def count(message):
    "Counts the words of a message."
    return f"{len(message.text.split())} words"
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from swarm.components import Action, Evaluator, Handler, Provider, Service
from swarm.errors import PluginError


@dataclass(frozen=True, slots=True)
class ModelHandler:
    """A model that a plugin brings: `handler(request)` for one model type; the highest priority serves."""

    type: str
    handler: Handler
    provider: str
    priority: int = 0


@dataclass(slots=True)
class Plugin:
    """What an agent is extended by. `dependencies` are names of plugins registered before this one.

    Hooks, all optional and async: `init(config, runtime)` at load, before the plugin's own services
    exist; `start(runtime)` when all services run; `stop(runtime)` at the end, in reverse order;
    `before_message(message, runtime)` may return another message; `after_message(message, response,
    runtime)`; `before_action(action, message, runtime)` may return False to block it;
    `after_action(action, result, runtime)`.
    """

    name: str
    description: str = ""
    actions: list[Action] = field(default_factory=list)
    providers: list[Provider] = field(default_factory=list)
    evaluators: list[Evaluator] = field(default_factory=list)
    services: list[type[Service]] = field(default_factory=list)
    models: list[ModelHandler] = field(default_factory=list)
    dependencies: Sequence[str] = ()
    optional_dependencies: Sequence[str] = ()
    priority: int = 0
    config: Mapping[str, Any] = field(default_factory=dict)
    routes: Sequence[Any] = ()
    events: Mapping[str, Sequence[Handler]] = field(default_factory=dict)
    on_hook_error: Literal["fail_open", "fail_closed"] = "fail_open"
    init: Handler | None = None
    start: Handler | None = None
    stop: Handler | None = None
    before_message: Handler | None = None
    after_message: Handler | None = None
    before_action: Handler | None = None
    after_action: Handler | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.strip():
            raise PluginError("A plugin needs a name.")

    def action(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        """Register the decorated coroutine as an action, by default under its own name in capitals."""

        def register(handler: Handler) -> Handler:
            self.actions.append(Action(name or _name_of(handler).upper(), handler, **fields))
            return handler

        return register

    def provider(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.providers.append(Provider(name or _name_of(handler).upper(), handler, **fields))
            return handler

        return register

    def evaluator(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        def register(handler: Handler) -> Handler:
            self.evaluators.append(Evaluator(name or _name_of(handler).upper(), handler, **fields))
            return handler

        return register

    def service(self, kind: type[Service]) -> type[Service]:
        """Register the decorated Service class."""
        if not (inspect.isclass(kind) and issubclass(kind, Service)):
            raise PluginError(f"Plugin {self.name}: a service is a class derived from Service.")
        self.services.append(kind)
        return kind


def _name_of(handler: Handler) -> str:
    return str(getattr(handler, "__name__", type(handler).__name__))
