"""The contract of the wire. Implementations: `buses/nats.py`, and `buses/memory.py` for tests.

Both pass the same suite (tests/contract/test_bus.py). The wire promises little, on purpose: a message
may be lost at any time, and only the ledger remembers. Nothing here retries.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from bus.envelope import Envelope


class Incoming(NamedTuple):
    """A message that came in by the door: decoded, with the subject the server let it pass on."""

    subject: str
    envelope: Envelope
    reply: str | None


Handler = Callable[[Incoming], None]
"""Called on the event loop, in order for each subscription, and must not block: hand work to a task
group that you own. An exception in a handler is logged and counted; it never ends the subscription."""


class Subscription(Protocol):
    async def stop(self) -> None:
        """No further calls of the handler once this returns. Stopping twice is fine."""


class Bus(Protocol):
    """One connection under one name. Every method raises `Disconnected` after the end."""

    name: str
    counters: dict[str, int]
    """What went wrong so far, for health and metrics; `bus.door.new_counters` names the keys."""

    async def publish(self, subject: str, envelope: Envelope, *, reply: str | None = None) -> None:
        """Send and forget. Raises BadMessage when too large. A subject that the server refuses is
        reported to the log and counted, because core NATS answers no publish."""

    async def request(
        self,
        subject: str,
        envelope: Envelope,
        *,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope:
        """Send and wait at most `timeout` seconds for one reply, which may come from a third party.

        Envelopes of kind ``chunk`` that arrive before go to `on_chunk`; whatever arrives after the end
        is dropped. Raises NobodyThere at once when nothing listens, TooLate at the deadline, and the
        error that an ``error`` envelope carries.
        """

    async def subscribe(self, subject: str, handler: Handler) -> Subscription:
        """Call `handler` for each message; `*` and a final `>` are wildcards. Returns when the server
        knows of it; raises Refused when this name has no right to `subject`. What is not an envelope is
        refused at the door: counted, logged and, when it has a reply address, answered with an error."""

    async def drain(self, timeout: float) -> None:
        """Stop taking in, hand out what has arrived, send what is buffered, close; by `timeout` seconds."""

    async def close(self) -> None:
        """Close now. Closing twice is fine."""

    async def wait_closed(self) -> None:
        """Returns when the connection has ended for good, whoever ended it."""

    @property
    def connected(self) -> bool:
        """Whether the server can be reached at this moment; a bus that is not connected keeps trying."""
