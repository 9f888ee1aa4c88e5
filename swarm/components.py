"""What a plugin is made of: actions, providers, evaluators, services. Plain objects, no ceremony.

A handler names what it wants, and gets only that, by name: any of

    runtime    the AgentRuntime          message   the Message being handled
    state      the composed State        options   parameters and previous results (ActionOptions)
    callback   `await callback(text)` sends a piece of the answer as it is made
    response   what the turn answered, or None (evaluators)
    responses  the same as a list, empty when there was none (evaluators)

so that both `async def count(message)` and elizaOS's five in a row are handlers. An action's keyword-only
arguments of other names are its parameters: `async def greet(message, *, name: str, times: int = 1)`
(see `signatures.py`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import msgspec

from swarm.declared import FLAG, LIST, MODEL, NAME, SECONDS, TEXT, TEXTS, WHOLE, check_declared, one_of
from swarm.records import Content
from swarm.signatures import HANDLER_ARGUMENTS, Handler, call_handler, check_handler, typed_parameters

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

__all__ = [
    "HANDLER_ARGUMENTS",
    "Action",
    "ActionOptions",
    "ActionResult",
    "Evaluator",
    "Handler",
    "Message",
    "Provider",
    "Service",
    "ServiceStatus",
    "State",
    "call_handler",
    "check_handler",
]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message as a turn sees it. `task` is the id of the task it asks for, when it is one."""

    id: str
    sender: str
    room: str
    kind: str
    content: Content
    received_at: int = 0
    in_reply_to: str | None = None
    hops: int = 0
    origin: str | None = None
    traceparent: str | None = None
    task: str | None = None
    attempt: int = 0

    @property
    def text(self) -> str:
        return self.content.text

    @property
    def given(self) -> dict[str, Any]:
        """What it brings for an action's parameters: a task's input, else ``data`` without ``action``."""
        brought = self.content.data
        if self.task is not None:
            brought = brought.get("input") or {}
        return {key: value for key, value in brought.items() if key != "action"}


@dataclass(frozen=True, slots=True)
class State:
    """What is known when a message is handled (D10): exactly these five."""

    messages: tuple[Any, ...] = ()
    facts: tuple[Any, ...] = ()
    providers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    context: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """`parameters` as the action declared them (validated), `previous` the results of earlier steps.
    `key` is the idempotency key for effects outside the store: the same for every retry of this step."""

    parameters: Any = None
    previous: tuple[ActionResult, ...] = ()
    key: str = ""


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What an action did. `execution_time` in milliseconds is set on every path."""

    success: bool
    text: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    reason: str | None = None
    plugin: str | None = None
    execution_time: float = 0.0


@dataclass(frozen=True, slots=True)
class Action:
    """Something an agent can do. `parameters` is a msgspec Struct or pydantic model, built from the
    task's input or the message's data; left out, it is made from the handler's own keyword-only
    arguments. `similes` and `examples` are how people ask for it.
    The handler returns an ActionResult, a str, a mapping, a Content or None. `timeout` in seconds.
    `on_failure`: whether the rest of a plan still runs; None leaves it to the plugin."""

    name: str
    handler: Handler
    description: str = ""
    similes: Sequence[str] = ()
    examples: Sequence[Any] = ()
    validate: Handler | None = None
    parameters: type[Any] | None = None
    timeout: float = 60.0
    on_failure: Literal["continue", "abort"] | None = None

    def __post_init__(self) -> None:
        what = f"action {self.name}"
        check_declared(
            what,
            self,
            {
                "name": NAME,
                "description": TEXT,
                "similes": TEXTS,
                "examples": LIST,
                "parameters": MODEL,
                "timeout": SECONDS,
                "on_failure": one_of("continue", "abort", None),
            },
        )
        _describe(self)
        typed = typed_parameters(what, self.handler, self.parameters)
        if typed is not None:
            object.__setattr__(self, "handler", typed.handler)
            object.__setattr__(self, "parameters", typed.parameters)
        check_handler(what, self.handler)
        if self.validate is not None:
            check_handler(f"validate of {what}", self.validate)


@dataclass(frozen=True, slots=True)
class Provider:
    """Adds to what is known. The handler returns a str, a mapping with `text` and/or `data`, or None.
    Providers appear in the context by `position`, then in the order of registration."""

    name: str
    handler: Handler
    description: str = ""
    position: int = 0
    timeout: float = 5.0

    def __post_init__(self) -> None:
        what = f"provider {self.name}"
        check_declared(what, self, {"name": NAME, "description": TEXT, "position": WHOLE, "timeout": SECONDS})
        _describe(self)
        check_handler(what, self.handler)


@dataclass(frozen=True, slots=True)
class Evaluator:
    """Looks at a finished turn, off its path. Runs if `always_run`, or `should_run` says so (else: if
    the agent responded), and if `validate` passes."""

    name: str
    handler: Handler
    description: str = ""
    always_run: bool = False
    should_run: Handler | None = None
    validate: Handler | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        what = f"evaluator {self.name}"
        check_declared(
            what, self, {"name": NAME, "description": TEXT, "always_run": FLAG, "timeout": SECONDS}
        )
        _describe(self)
        check_handler(what, self.handler)
        for name in ("should_run", "validate"):
            guard = getattr(self, name)
            if guard is not None:
                check_handler(f"{name} of {what}", guard)


class ServiceStatus(StrEnum):
    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ERROR = "error"


class Service:
    """Something long-lived that belongs to an agent. Subclass it, name its `service_type`, and write
    `start` and `stop`; the framework sets `status` around them and calls them in the order of
    `dependencies` (service types), stopping in reverse.

    Work that goes on belongs in `run`: it is called after `start`, off everybody's path, and cancelled
    before `stop`. If it raises, the service has crashed: it is stopped, made anew and started again,
    after a wait that grows, and given up when it crashes too often. If it returns, its work is done."""

    service_type: ClassVar[str] = ""
    dependencies: ClassVar[Sequence[str]] = ()
    required: ClassVar[bool] = True

    def __init__(self, runtime: AgentRuntime) -> None:
        self.runtime = runtime
        self.status = ServiceStatus.STOPPED

    async def start(self) -> None: ...

    async def run(self) -> None: ...

    async def stop(self) -> None: ...


def _describe(component: Action | Provider | Evaluator) -> None:
    """A component without a description has its handler's docstring for one."""
    if not component.description:
        object.__setattr__(component, "description", inspect.getdoc(component.handler) or "")
