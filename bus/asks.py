"""The asks that one bus has in flight: each ends once, by its deadline. Shared by all buses.

Replies come in on one subscription, ``_INBOX.<name>.<connection>.*``, whose last token says which ask is
meant. The token of the connection keeps the replicas of one agent apart. Tokens are never used twice, so
an answer that comes late finds nobody and is dropped.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable

from bus.door import Counters, count
from bus.envelope import Envelope, decode, raise_if_error
from bus.errors import BadMessage, BusError, NobodyThere, TooLate
from bus.subjects import inbox

log = logging.getLogger(__name__)


class _Ask:
    __slots__ = ("future", "on_chunk", "subject")

    def __init__(
        self, future: asyncio.Future[Envelope], subject: str, on_chunk: Callable[[Envelope], None] | None
    ) -> None:
        self.future = future
        self.subject = subject
        self.on_chunk = on_chunk


class Asks:
    """Not for threads: everything happens on one event loop."""

    def __init__(self, name: str, counters: Counters) -> None:
        self.prefix = f"{inbox(name)}.{secrets.token_hex(6)}."
        self.pattern = self.prefix + "*"
        self._name = name
        self._counters = counters
        self._waiting: dict[str, _Ask] = {}
        self._number = 0

    async def run(
        self,
        subject: str,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None,
        send: Callable[[str], object],
    ) -> Envelope:
        """Call `send` with a reply address and wait `timeout` seconds at most for what comes in there.

        Raises what `Bus.request` raises. Sending is the first thing that happens, without a break.
        """
        loop = asyncio.get_running_loop()
        self._number += 1
        token = str(self._number)
        ask = _Ask(loop.create_future(), subject, on_chunk)
        self._waiting[token] = ask
        timer = loop.call_later(timeout, self._too_late, token, timeout)
        try:
            send(self.prefix + token)
            return raise_if_error(await ask.future)
        finally:
            timer.cancel()
            self._waiting.pop(token, None)

    def answered(self, token: str, data: bytes) -> None:
        """An answer came in at `token`. Never raises."""
        ask = self._waiting.get(token)
        if ask is None or ask.future.done():
            self._counters["late"] += 1
            return
        try:
            envelope = decode(data)
        except BadMessage as error:
            count(
                self._counters,
                "bad_messages",
                "%s got a bad answer on %s: %s",
                self._name,
                ask.subject,
                error,
            )
            ask.future.set_exception(error)
            return
        if envelope.kind != "chunk":
            ask.future.set_result(envelope)
        elif ask.on_chunk is not None:
            try:
                ask.on_chunk(envelope)
            except Exception:
                count(
                    self._counters, "handler_errors", "%s: on_chunk of %s failed", self._name, ask.subject,
                    exc_info=True,
                )  # fmt: skip

    def nobody(self, token: str) -> None:
        """The server says that nobody listens where `token` asked."""
        ask = self._waiting.get(token)
        if ask is not None and not ask.future.done():
            text = f"Nobody listens on {ask.subject} now; is it running?"
            ask.future.set_exception(NobodyThere(text))

    def refused(self, subject: str, error: BusError) -> None:
        """The server refused to carry anything to `subject`."""
        self._fail(error, lambda ask: ask.subject == subject)

    def end(self, error: BusError) -> None:
        """Nothing will be answered any more."""
        self._fail(error, lambda _ask: True)

    def _fail(self, error: BusError, chosen: Callable[[_Ask], bool]) -> None:
        for ask in list(self._waiting.values()):
            if chosen(ask) and not ask.future.done():
                # An exception of its own for each asker: tracebacks are attached where it is raised.
                ask.future.set_exception(type(error)(error.text, reason=error.reason))

    def _too_late(self, token: str, timeout: float) -> None:
        ask = self._waiting.get(token)
        if ask is not None and not ask.future.done():
            ask.future.set_exception(TooLate(f"No answer from {ask.subject} within {timeout:g} s."))
