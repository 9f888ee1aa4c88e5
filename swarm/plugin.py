"""A plugin: a name and what it brings. Written as one value, or grown by decorators:

plugin = Plugin("counter")

@plugin.action(similes=["TALLY"])
async def count(message):
    "Counts the words of a message."
    return f"{len(message.text.split())} words"

@plugin.hook
async def before_action(action, message):
    return action.name != "COUNT" or bool(message.text)
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from swarm.components import Action, Evaluator, Handler, Provider, Service, check_handler
from swarm.declared import (
    FLAG,
    LIST,
    LISTENERS,
    MAPPING,
    NAME,
    TEXT,
    TEXTS,
    WHOLE,
    check_declared,
    check_fields,
    kind_of,
    one_of,
)
from swarm.errors import PluginError, near
from swarm.signatures import is_async

HOOKS: Final[dict[str, tuple[str, ...]]] = {
    "init": ("config", "runtime"),
    "start": ("runtime",),
    "before_message": ("message", "runtime"),
    "before_action": ("action", "message", "runtime"),
    "after_action": ("action", "result", "message", "runtime"),
    "after_message": ("message", "response", "runtime"),
    "stop": ("runtime",),
}
"""Each hook, and what it may ask for by name."""


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
    With `required=False` the agent lives without it when it fails to load or to start; with `inheritable=True`
    children that this agent spawns have it too.

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
    required: bool = True
    inheritable: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    routes: Sequence[Any] = ()
    events: Mapping[str, Sequence[Handler]] = field(default_factory=dict)
    on_hook_error: Literal["fail_open", "fail_closed"] = "fail_open"
    on_action_failure: Literal["continue", "abort"] = "abort"
    """What becomes of the rest of a plan, for actions that say nothing themselves."""
    init: Handler | None = None
    start: Handler | None = None
    stop: Handler | None = None
    before_message: Handler | None = None
    after_message: Handler | None = None
    before_action: Handler | None = None
    after_action: Handler | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise PluginError('A plugin needs a name: Plugin("my-plugin").')

    def action(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        """Register the decorated coroutine as an action, by default under its own name in capitals."""

        self._check_call(Action, name, fields)

        def register(handler: Handler) -> Handler:
            self.actions.append(Action(_named(name, handler), handler, **fields))
            return handler

        return register

    def provider(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        self._check_call(Provider, name, fields)

        def register(handler: Handler) -> Handler:
            self.providers.append(Provider(_named(name, handler), handler, **fields))
            return handler

        return register

    def evaluator(self, name: str | None = None, **fields: Any) -> Callable[[Handler], Handler]:
        self._check_call(Evaluator, name, fields)

        def register(handler: Handler) -> Handler:
            self.evaluators.append(Evaluator(_named(name, handler), handler, **fields))
            return handler

        return register

    def service(self, kind: type[Service]) -> type[Service]:
        """Register the decorated Service class."""
        if not (inspect.isclass(kind) and issubclass(kind, Service)):
            raise PluginError(f"Plugin {self.name}: a service is a class derived from Service.")
        self.services.append(kind)
        return kind

    def hook(self, handler: Handler) -> Handler:
        """The decorated coroutine is the hook of its own name, such as `before_action`."""
        name = _name_of(handler)
        if name not in HOOKS:
            raise PluginError(
                f"Plugin {self.name}: there is no hook {name!r}{near(name, HOOKS)} There are: {', '.join(HOOKS)}."
            )
        if getattr(self, name) is not None:
            raise PluginError(f"Plugin {self.name} has a hook {name} already; a plugin has one of each.")
        check_handler(f"hook {name} of plugin {self.name}", handler, HOOKS[name])
        setattr(self, name, handler)
        return handler

    def on(self, event: str) -> Callable[[Handler], Handler]:
        """The decorated coroutine is called with a dict of the fields of every such event."""

        def register(listener: Handler) -> Handler:
            self.events = {**self.events, event: [*self.events.get(event, ()), listener]}
            return listener

        return register

    def model(self, type: str, *, provider: str = "", priority: int = 0) -> Callable[[Handler], Handler]:
        """The decorated coroutine serves a model type; its provider is this plugin unless it says otherwise."""

        def register(handler: Handler) -> Handler:
            self.models.append(ModelHandler(type, handler, provider or self.name, priority))
            return handler

        return register

    def _check_call(self, kind: type[Any], name: str | None, fields: Mapping[str, Any]) -> None:
        decorator = kind.__name__.lower()
        if callable(name):
            raise PluginError(f"Plugin {self.name}: write @plugin.{decorator}() with its parentheses.")
        known = [one.name for one in dataclasses.fields(kind) if one.name not in ("name", "handler")]
        check_fields(f"Plugin {self.name}: @plugin.{decorator}()", fields, known)

    def check(self) -> None:
        """Raises PluginError, naming this plugin and the field, for what is not of its type."""
        for name, (kind, how) in _PARTS.items():
            given = getattr(self, name)
            if not isinstance(given, (list, tuple)):
                raise PluginError(f"Plugin {self.name}: {name} must be a list, not {kind_of(given)}.")
            for number, one in enumerate(given):
                if not isinstance(one, kind):
                    raise PluginError(f"Plugin {self.name}: {name}[{number}] is {kind_of(one)}; write {how}.")
        check_declared(f"Plugin {self.name}", self, _FIELDS)
        for service in self.services:
            self._check_service(service)
        for model in self.models:
            what = f"Plugin {self.name}: model {model.type!s}"
            check_declared(what, model, {"type": NAME, "provider": NAME, "priority": WHOLE})
            if not is_async(model.handler):
                raise PluginError(f"{what}: its handler must be an `async def` function.")
        for name, allowed in HOOKS.items():
            if (hook := getattr(self, name)) is not None:
                check_handler(f"hook {name} of plugin {self.name}", hook, allowed)

    def _check_service(self, service: type[Service]) -> None:
        what = f"Plugin {self.name}: service {service.__name__}"
        if not issubclass(service, Service):
            raise PluginError(f"{what} is not derived from Service.")
        if service.service_type == "":
            raise PluginError(f"{what} has no service_type; give it one.")
        check_declared(what, service, {"service_type": NAME, "dependencies": TEXTS, "required": FLAG})
        for name in ("start", "run", "stop"):
            if not inspect.iscoroutinefunction(getattr(service, name)):
                raise PluginError(f"{what}: {name} must be an `async def` method.")


_FIELDS: Final = {
    "description": TEXT,
    "priority": WHOLE,
    "required": FLAG,
    "inheritable": FLAG,
    "config": MAPPING,
    "routes": LIST,
    "events": LISTENERS,
    "on_hook_error": one_of("fail_open", "fail_closed"),
    "on_action_failure": one_of("continue", "abort"),
}
_PARTS: Final[dict[str, tuple[type[Any], str]]] = {
    "actions": (Action, "Action(name, handler) or use @plugin.action()"),
    "providers": (Provider, "Provider(name, handler) or use @plugin.provider()"),
    "evaluators": (Evaluator, "Evaluator(name, handler) or use @plugin.evaluator()"),
    "services": (type, "a class derived from Service"),
    "models": (ModelHandler, "ModelHandler(type, handler, provider) or use @plugin.model(type)"),
    "dependencies": (str, "the name of a plugin"),
    "optional_dependencies": (str, "the name of a plugin"),
}


def _named(name: str | None, handler: Handler) -> str:
    return name or _name_of(handler).upper()


def _name_of(handler: Handler) -> str:
    return str(getattr(handler, "__name__", type(handler).__name__))
