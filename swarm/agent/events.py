"""What a runtime tells of itself, and to whom. Every event is in `CATALOGUE`, with its fields.

A listener that fails or hangs harms neither the others nor the one who tells (B11).
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from typing import Any, Final

from swarm.errors import UsageError, near

log = logging.getLogger(__name__)

CATALOGUE: Final[dict[str, tuple[str, ...]]] = {
    "lifecycle:changed": ("old", "new", "at"),
    "plugin:registered": ("plugin",),
    "plugin:failed": ("plugin", "error"),
    "service:status": ("service", "status", "error"),
    "turn:started": ("message", "run_id"),
    "turn:ended": ("message", "run_id", "status", "milliseconds"),
    "decision:made": ("message", "run_id", "attends", "responds", "why"),
    "choice:made": ("message", "run_id", "candidates", "chosen", "outcome", "selector", "confidence"),
    "action:started": ("action", "message", "run_id", "step", "steps"),
    "action:response": ("action", "response", "message_id", "run_id", "seq", "final"),
    "action:ended": ("action", "result", "message", "run_id", "step", "steps"),
    "action:skipped": ("action", "message", "run_id", "step", "steps", "because"),
    "evaluation:ended": ("message", "results"),
    "message:send": ("receipt",),
    "message:external": ("message", "source"),  # told by bridges: something came in from outside
    "message:notice": ("message",),
    "message:given_up": ("message", "tries", "error"),
    "task:result": ("task", "state"),
    "task:question": ("task", "question"),  # a task that was given asks for input: peers.answer
    "task:canceled": ("task", "reason"),  # the task in hand was: its turn is over
    "component:failed": ("kind", "name", "plugin", "error"),
}

LISTENER_SECONDS: Final = 5.0
Listener = Callable[[dict[str, Any]], Any]


class Events:
    """An emitter. Plugins may use further names of their own, with a prefix such as ``myplugin:``."""

    def __init__(self) -> None:
        self._listeners: dict[str, list[Listener]] = {}

    def on(self, event: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with a dict of the event's fields; it may be async. Returns how to stop.

        Raises UsageError for a name that looks like one of ours and is not, which is a typo.
        """
        self.check(event)
        listeners = self._listeners.setdefault(event, [])
        listeners.append(listener)

        def unsubscribe() -> None:
            if listener in listeners:
                listeners.remove(listener)

        return unsubscribe

    @staticmethod
    def check(event: str) -> None:
        """Raises UsageError for a name that looks like one of ours and is not."""
        if event not in CATALOGUE and event.split(":")[0] in {name.split(":")[0] for name in CATALOGUE}:
            raise UsageError(f"There is no event {event!r}{near(event, CATALOGUE)}")

    def heard(self, event: str) -> bool:
        """Whether anybody listens, for tellers to whom the fields cost something."""
        return bool(self._listeners.get(event))

    async def emit(self, event: str, **fields: Any) -> None:
        """Tell every listener in the order they came, each bounded in time, none able to fail the rest."""
        for listener in tuple(self._listeners.get(event, ())):
            try:
                told = listener(fields)
                if inspect.isawaitable(told):
                    async with asyncio.timeout(LISTENER_SECONDS):
                        await told
            except Exception:
                log.exception("A listener of %s failed.", event)
