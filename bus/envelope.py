"""The envelope: what every message on the wire looks like, and the one door through which it comes in.

Bytes become a frozen `Envelope` here or a `BadMessage`; nothing behind this door sees bytes. The body
stays packed (`msgspec.Raw`) until its reader asks for it as a type, so that a process which only
passes a message on never pays for it, and a hostile body harms nobody but is refused.

Facts behind the bounds: msgspec raises RecursionError (not DecodeError) on 100k nested arrays, and
accepts NUL in strings, which Postgres does not.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from bus.errors import BadMessage, BusError, error_from_wire

VERSION: Final = 1
MAX_BYTES: Final = 1_310_720
"""Largest encoded envelope, in bytes: a result of 1 MB and room for the rest. NATS allows 2 MiB."""
MAX_HOPS: Final = 32

_TEXT = r"^[^\x00]*\Z"
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+\Z")]
Name = Annotated[str, Meta(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9_-]+\Z")]
"""One token of a subject: an agent's name in its swarm, an instance, a node."""
Address = Annotated[str, Meta(min_length=1, max_length=128, pattern=_TEXT)]
Room = Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
Millis = Annotated[int, Meta(ge=0, le=2**53)]
"""A moment: milliseconds since the Unix epoch."""

Kind = Literal[
    "ask", "tell", "announce", "task",  # what agents say: one turn each
    "reply", "chunk", "error",  # what an asker gets back
    "result", "progress", "notice",  # what the ledger tells a sender about its own tasks and messages
    "control",  # processes among themselves: hello, beat, bell, assignments, operators' commands
]  # fmt: skip


class Envelope(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One message on the wire. All times are Unix milliseconds.

    `sender` must equal the sender's token in the subject, which the server authorised; whoever
    receives on `up` checks it. `delivery` and `attempt` are set by the coordinator alone, on messages
    that come from the ledger: the recipient hands them back when it commits its turn.
    """

    v: Literal[1] = VERSION
    id: Id
    sender: Name
    to: Address
    room: Room
    kind: Kind
    body: msgspec.Raw
    in_reply_to: Id | None = None
    deadline: Millis | None = None
    hops: Annotated[int, Meta(ge=0, le=255)] = 0
    origin: Id | None = None
    traceparent: Annotated[str, Meta(max_length=64, pattern=r"^[0-9a-f-]*\Z")] | None = None
    delivery: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    attempt: Annotated[int, Meta(ge=0, le=10_000)] = 0

    def seconds_left(self, now: float | None = None) -> float | None:
        """Seconds until the deadline (negative when past); None when there is no deadline."""
        if self.deadline is None:
            return None
        return self.deadline / 1000 - (time.time() if now is None else now)


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of an envelope of kind ``error``."""

    code: Annotated[str, Meta(max_length=64)]
    text: Annotated[str, Meta(max_length=4096)]
    reason: Annotated[str, Meta(max_length=64)] = ""


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Envelope)
Body = TypeVar("Body")


def pack(value: Any) -> msgspec.Raw:
    """Pack any struct or plain value for an envelope's body.

    Raises BadMessage for what MessagePack cannot carry (integers beyond 64 bits, unknown types).
    """
    try:
        return msgspec.Raw(_ENCODER.encode(value))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadMessage(f"This body cannot be sent: {error}.", reason="bad_body") from error


def encode(envelope: Envelope) -> bytes:
    """The envelope as bytes. Raises BadMessage when it is larger than MAX_BYTES."""
    data = _ENCODER.encode(envelope)
    if len(data) > MAX_BYTES:
        raise BadMessage(
            f"This message has {len(data):,} bytes and at most {MAX_BYTES:,} fit; "
            "put the content in a file or the store and send where it is.",
            reason="too_large",
        )
    return data


def decode(data: bytes) -> Envelope:
    """The only way in. Raises BadMessage, with a sentence, for anything that is not an envelope."""
    if len(data) > MAX_BYTES:
        raise BadMessage(
            f"A message of {len(data):,} bytes is over the bound of {MAX_BYTES:,}.", reason="too_large"
        )
    try:
        return _DECODER.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadMessage(f"Not a message of this protocol: {error}.") from error


def read_body(envelope: Envelope, kind: type[Body]) -> Body:
    """The body as `kind`. Raises BadMessage when it is something else, or nested beyond reason."""
    try:
        return msgspec.msgpack.decode(envelope.body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise BadMessage(f"The body of this {envelope.kind} is not as expected: {error}.") from error


def error_body(error: BusError) -> msgspec.Raw:
    return pack(ErrorBody(code=error.code, text=error.text[:4096], reason=error.reason[:64]))


def raise_if_error(envelope: Envelope) -> Envelope:
    """The envelope itself, or the exception that an ``error`` envelope stands for."""
    if envelope.kind != "error":
        return envelope
    body = read_body(envelope, ErrorBody)
    raise error_from_wire(body.code, body.text, body.reason)
