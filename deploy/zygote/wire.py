"""What the node and the warm parent say to each other: MessagePack, each behind its length in four bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

LARGEST = 16 * 1024 * 1024
_LENGTH = struct.Struct("!I")


class Start(msgspec.Struct, tag="start", frozen=True):
    """First of all. `preload`: modules to import; ``module:function`` is also called once."""

    preload: list[str]


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """A child called `name` that calls ``module:function`` with `spec`; its output is appended to `log`."""

    id: int
    name: str
    entry: str
    spec: bytes
    log: str
    environment: dict[str, str]


class Signal(msgspec.Struct, tag="signal", frozen=True):
    """To a child that still is one; to its whole group if asked. Otherwise nothing."""

    pid: int
    number: int
    group: bool = False


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """SIGTERM to every child, SIGKILL to those that are there after `grace` seconds; then the parent ends."""

    grace: float


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """`failed`: what could not be preloaded, and why; then the parent ends."""

    failed: dict[str, str]
    seconds: float


class Forked(msgspec.Struct, tag="forked", frozen=True):
    id: int
    name: str
    pid: int
    error: str = ""


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """A child has ended: `code` if it did so itself, `signal` if it was killed (the other is 0).

    `cpu` seconds of its own, `memory` its largest resident size in bytes.
    """

    pid: int
    name: str
    code: int
    signal: int
    cpu: float
    memory: int


Request = Start | Fork | Signal | Stop
Answer = Ready | Forked | Exited

_encoder = msgspec.msgpack.Encoder()
read_request = msgspec.msgpack.Decoder(Request).decode
read_answer = msgspec.msgpack.Decoder(Answer).decode


def frame(message: Request | Answer) -> bytes:
    body = _encoder.encode(message)
    if len(body) > LARGEST:
        raise ValueError(f"a message of {len(body)} bytes is too large; the most is {LARGEST}")
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._rest)
            if size > LARGEST:
                raise ValueError(f"a message of {size} bytes is too large; the most is {LARGEST}")
            end = _LENGTH.size + size
            if len(self._rest) < end:
                return
            yield bytes(self._rest[_LENGTH.size : end])
            del self._rest[:end]
