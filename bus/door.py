"""The door of a bus: what comes in is decoded, handed over or refused, and counted. Shared by all buses."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from typing import Final

from bus.bus import Handler, Incoming
from bus.envelope import Envelope, decode, error_body
from bus.errors import BadMessage
from bus.patterns import MAX_SUBJECT
from bus.subjects import is_inbox_of, owner_of

log = logging.getLogger(__name__)

Counters = dict[str, int]
_LOGGED_EACH: Final = 20


def new_counters() -> Counters:
    """What a bus counts, for health and metrics.

    bad_messages    came in and are no envelopes
    dropped         could not be sent because there was no connection
    late            answers to asks that had ended
    violations      refused by the server: a subject that this name has no right to
    handler_errors  exceptions that handlers let through
    reconnects      times that a lost connection was regained
    """
    return dict.fromkeys(("bad_messages", "dropped", "late", "violations", "handler_errors", "reconnects"), 0)


def count(counters: Counters, what: str, text: str, *values: object, exc_info: bool = False) -> None:
    """Count one more and log it as a warning: the first few, then each time the number doubles."""
    counters[what] += 1
    number = counters[what]
    if number <= _LOGGED_EACH or number & (number - 1) == 0:
        log.warning(text + " (%s: %d)", *values, what, number, exc_info=exc_info)


class Door:
    """Hands what comes in on one subscription to its handler."""

    __slots__ = ("_answer", "_counters", "_handler", "_name", "closed")

    def __init__(
        self, name: str, handler: Handler, counters: Counters, answer: Callable[[str, Envelope], None]
    ) -> None:
        self._name = name
        self._handler = handler
        self._counters = counters
        self._answer = answer
        self.closed = False

    def enter(self, subject: str, data: bytes, reply: str | None) -> None:
        """Never raises: neither bytes from the wire nor a handler may end a subscription."""
        if self.closed:
            return
        try:
            incoming = Incoming(subject, decode(data), reply)
        except BadMessage as error:
            self._refuse(subject, reply, error)
            return
        try:
            self._handler(incoming)
        except Exception:
            count(
                self._counters,
                "handler_errors",
                "%s: the handler of %s failed",
                self._name,
                subject,
                exc_info=True,
            )

    def _refuse(self, subject: str, reply: str | None, error: BadMessage) -> None:
        count(self._counters, "bad_messages", "%s refused a message on %s: %s", self._name, subject, error)
        owner = inbox_to_answer(subject, reply)
        if reply is None or owner is None:
            return
        envelope = Envelope(
            id=uuid.uuid4().hex, sender=self._name, to=owner, room="-", kind="error", body=error_body(error)
        )
        try:
            self._answer(reply, envelope)
        except Exception:
            log.warning("%s could not answer a bad message on %s", self._name, subject, exc_info=True)


def inbox_to_answer(subject: str, reply: str | None) -> str | None:
    """The name whose inbox `reply` is, if one may answer there; else None.

    Anyone may write any subject into a reply field. What came under a sender's own subject (`up`, `ctl`,
    `node.*.up`) is answered in that sender's inbox only, else a bad message would make the receiver speak to
    somebody else with its own rights. On other subjects only the coordinator speaks, and it has looked.
    """
    if reply is None or len(reply) > MAX_SUBJECT:
        return None
    owner = owner_of(reply)
    match subject.split("."):
        case [_, "up" | "ctl", sender, *_] | [_, "node", sender, "up", *_]:
            owner = sender
    return owner if owner and is_inbox_of(owner, reply) else None
