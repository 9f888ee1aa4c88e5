"""Who answers which type of model request: handlers by type, each with a provider and a priority.

The highest priority wins and among equals the first registered, so that a plugin's provider at the
default 0 takes over from the built-in local model (registered below 0) and is not taken over by a
later plugin by accident. The registry also counts: every call's tokens by type and provider, and one
`ModelCall` to the observer, in the caller's own context, so that an agent can attribute it to a task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec

from bus.errors import BusError
from swarm.agent.bounded import TookTooLong, bounded
from swarm.agent.models.types import TextReply, Usage
from swarm.errors import ModelError, SwarmError, near
from swarm.tracing.tracer import UNTRACED, Tracer

log = logging.getLogger(__name__)

CALL_SECONDS: Final = 300.0
"""How long a handler may take whose request sets no `timeout`; built-in ones end sooner by themselves."""
GRACE_SECONDS: Final = 5.0
"""Beyond a request's own `timeout`, for a handler that keeps to it and has a better sentence."""

Handler = Callable[[Any], Awaitable[Any]]
_H = TypeVar("_H", bound=Handler)


class Registration(msgspec.Struct, frozen=True):
    type: str
    provider: str
    priority: int
    handler: Handler


class ModelCall(msgspec.Struct, frozen=True):
    """One call that ended: `seconds` it took, and `error`, the error's reason, or "" when it answered."""

    type: str
    provider: str
    model: str
    usage: Usage
    seconds: float
    error: str = ""


class ModelRegistry(Mapping[str, tuple[Registration, ...]]):
    """The models of one agent; as a mapping, type → its handlers, the winner first (B1). Types and
    providers are compared without regard to case."""

    def __init__(self, observer: Callable[[ModelCall], None] | None = None) -> None:
        self._by_type: dict[str, tuple[Registration, ...]] = {}
        self._usage: dict[tuple[str, str], Usage] = {}
        self._observer = observer
        self.tracer: Tracer = UNTRACED

    @property
    def models(self) -> Mapping[str, tuple[Registration, ...]]:
        """Type → its registrations, the winner first. A read-only view."""
        return MappingProxyType(self._by_type)

    @property
    def usage(self) -> Mapping[tuple[str, str], Usage]:
        """(type, provider) → tokens so far. A read-only view."""
        return MappingProxyType(self._usage)

    def register(self, type: str, handler: _H, provider: str, priority: int = 0) -> _H:
        """Add a handler and return it. Raises ModelError for an empty type or provider."""
        if not type.strip() or not provider.strip():
            raise ModelError("A model needs a type and a provider: name both when registering it.")
        if not callable(handler):
            raise ModelError(f"The model handler of {provider} for {type} is not callable: pass a function.")
        key = _key(type)
        entry = Registration(key, _key(provider), priority, handler)
        # sorted() is stable: among equal priorities the order of registration stays.
        self._by_type[key] = tuple(
            sorted((*self._by_type.get(key, ()), entry), key=lambda one: -one.priority)
        )
        return handler

    def unregister(self, type: str, handler: Handler) -> None:
        """Take a handler out again; one that is not there is no error."""
        key = _key(type)
        left = tuple(one for one in self._by_type.get(key, ()) if one.handler != handler)
        if left:
            self._by_type[key] = left
        else:
            self._by_type.pop(key, None)

    def __getitem__(self, type: str) -> tuple[Registration, ...]:
        return self._by_type[_key(type)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_type)

    def __len__(self) -> int:
        return len(self._by_type)

    def has(self, type: str, provider: str | None = None) -> bool:
        return any(
            provider is None or one.provider == _key(provider) for one in self._by_type.get(_key(type), ())
        )

    def resolve(self, type: str, provider: str | None = None) -> Registration:
        """The registration that serves this type. Raises ModelError, naming what there is."""
        found = self._by_type.get(_key(type))
        if not found:
            known = ", ".join(sorted(self._by_type)) or "none"
            raise ModelError(
                f"No model of type {str(type)!r} is registered (there are: {known})"
                f"{near(_key(type), self._by_type)}",
                reason="unknown_model_type",
            )
        if provider is None:
            return found[0]
        for one in found:
            if one.provider == _key(provider):
                return one
        names = list(dict.fromkeys(one.provider for one in found))
        raise ModelError(
            f"No provider {provider!r} serves the model type {_key(type)!r} (there are: {', '.join(names)})"
            f"{near(_key(provider), names)}",
            reason="unknown_model_provider",
        )

    async def use(self, type: str, params: Any, provider: str | None = None) -> Any:
        """Ask the model and return its reply.

        Errors of ours pass as they are; a handler that hangs and any other exception of one become a ModelError
        that names the provider and the exception's class, not its text, which may carry a secret.
        """
        entry = self.resolve(type, provider)
        began = time.monotonic()
        error = "cancelled"
        reply: Any = None
        seconds = _seconds_for(params)
        try:
            with self.tracer.span(f"chat {entry.type}", "client", _of(entry)):
                reply = await bounded(entry.handler(params), seconds)
            error = ""
        except TookTooLong:
            error = "timeout"
            raise ModelError(
                f"The model provider {entry.provider!r} did not answer {entry.type} within {seconds:g} s and was "
                "given up; look at what it waits for.",
                reason="timeout",
            ) from None
        except (SwarmError, BusError) as failure:
            error = failure.reason or "failed"
            raise
        except Exception as failure:
            error = "failed"
            raise ModelError(
                f"The model provider {entry.provider!r} failed at {entry.type} with "
                f"{failure.__class__.__name__}; its traceback is the cause of this error.",
                reason="model_failed",
            ) from failure
        finally:
            self._count(entry, reply, time.monotonic() - began, error)
        return reply

    async def use_text(self, type: str, params: Any) -> str:
        """What a text model says. Raises ModelError, also for a reply that is neither a TextReply nor a text."""
        reply = await self.use(type, params)
        text = reply.text if isinstance(reply, TextReply) else reply
        if not isinstance(text, str):
            provider = self.resolve(type).provider
            raise ModelError(
                f"The model provider {provider!r} must return a TextReply or a text for {type}, not "
                f"{text.__class__.__name__}.",
                reason="bad_reply",
            )
        return text

    def _count(self, entry: Registration, reply: Any, seconds: float, error: str) -> None:
        usage = getattr(reply, "usage", None)
        if not isinstance(usage, Usage):
            usage = Usage()
        key = (entry.type, entry.provider)
        self._usage[key] = self._usage.get(key, Usage()) + usage
        if self._observer is None:
            return
        model = getattr(reply, "model", "")
        call = ModelCall(
            entry.type, entry.provider, model if isinstance(model, str) else "", usage, seconds, error
        )
        try:
            self._observer(call)
        except Exception:
            log.exception("The observer of model calls failed; the call itself stands.")


def _seconds_for(params: Any) -> float:
    asked = getattr(params, "timeout", None)
    return asked + GRACE_SECONDS if isinstance(asked, (int, float)) and asked > 0 else CALL_SECONDS


def _of(entry: Registration) -> dict[str, str]:
    return {
        "gen_ai.operation.name": "embeddings" if "embedding" in entry.type else "chat",
        "gen_ai.provider.name": entry.provider,
        "gen_ai.request.model": entry.type,
    }


def _key(name: str) -> str:
    return str(name).strip().lower()
