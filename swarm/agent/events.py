"""What a runtime tells of itself, and to whom. Every event is in `CATALOGUE`, with its fields.

A listener that fails or hangs harms neither the others nor the one who tells (B11).
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, Final

from swarm.agent.bounded import TookTooLong, bounded
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


def _uncounted(kind: str, name: str) -> None:
    """For an emitter that stands alone."""


class Events:
    """An emitter. Plugins may use further names of their own, with a prefix such as ``myplugin:``."""

    def __init__(self, failed: Callable[[str, str], None] = _uncounted) -> None:
        """`failed(kind, name)` counts a listener that did."""
        self._listeners: dict[str, list[tuple[Listener, str]]] = {}
        self._failed = failed

    def on(self, event: str, listener: Listener, *, plugin: str = "") -> Callable[[], None]:
        """Call `listener` with a dict of the event's fields; it may be async. `plugin` is whose it is, for the log.
        Returns how to stop.

        Raises UsageError for a name that looks like one of ours and is not, which is a typo.
        """
        self.check(event)
        listeners = self._listeners.setdefault(event, [])
        entry = (listener, plugin)
        listeners.append(entry)

        def unsubscribe() -> None:
            if entry in listeners:
                listeners.remove(entry)

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
        for listener, plugin in tuple(self._listeners.get(event, ())):
            try:
                await bounded(_told(listener, fields), LISTENER_SECONDS)
            except TookTooLong:
                log.warning(
                    "a listener of %s (plugin %s) took longer than %g s and was given up",
                    event,
                    plugin or "none",
                    LISTENER_SECONDS,
                )
                self._failed("listener", event)
            except Exception:
                log.exception("a listener of %s (plugin %s) failed", event, plugin or "none")
                self._failed("listener", event)


async def _told(listener: Listener, fields: dict[str, Any]) -> None:
    told = listener(fields)
    if inspect.isawaitable(told):
        await told
