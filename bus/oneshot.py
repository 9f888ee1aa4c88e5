"""One question to a NATS server, without an event loop and without the client library.

For commands that ask once and end: importing asyncio and nats-py takes five times as long as the question.
Only `request` of the contract in `bus.py`, on blocking sockets; no reconnecting, no streams, no TLS.
"""

from __future__ import annotations

import base64
import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import SplitResult, urlsplit

from bus.credentials import Credentials
from bus.envelope import Envelope, decode, encode, raise_if_error
from bus.errors import Disconnected, NobodyThere, Refused, TooLate
from bus.jwt import Key
from bus.patterns import check_subject
from bus.subjects import inbox

CONNECT_SECONDS: Final = 2.0


class OneShotBus:
    """Not a `Bus`: its `request` blocks, though it can be awaited, so that `swarm.client` can be driven by it."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self.name = name
        self._socket = connection
        self._file = connection.makefile("rb")
        self._inbox = f"{inbox(name)}.{secrets.token_hex(6)}"
        self._asked = 0

    async def request(
        self,
        subject: str,
        envelope: Envelope,
        *,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope:
        """As `Bus.request`."""
        deadline = time.monotonic() + timeout
        data, self._asked = encode(envelope), self._asked + 1
        reply = f"{self._inbox}.{self._asked}"
        head = f"SUB {reply} {self._asked}\r\nPUB {check_subject(subject)} {reply} {len(data)}\r\n"
        try:
            self._socket.settimeout(max(0.01, timeout))
            self._socket.sendall(head.encode() + data + b"\r\n")
            while True:
                self._socket.settimeout(max(0.01, deadline - time.monotonic()))
                answer = self._next(reply, subject)
                if answer is None:
                    continue
                if answer.kind != "chunk":
                    return raise_if_error(answer)
                if on_chunk is not None:
                    on_chunk(answer)
        except TimeoutError:
            raise TooLate(f"No answer from {subject} within {timeout:g} s.") from None
        except OSError as error:
            raise Disconnected(f"The connection to the bus broke ({error}).") from error

    def connect(self, who: Credentials) -> None:
        """Say who we are. Raises Refused when the server does not believe it."""
        info = self._line()
        if not info.startswith(b"INFO "):
            raise Disconnected("This is no NATS server.")
        nonce = str(json.loads(info[5:]).get("nonce", ""))
        options = {
            "verbose": False,
            "pedantic": False,
            "lang": "python",
            "version": "1",
            "protocol": 1,
            "name": who.name,
            "headers": True,
            "no_responders": True,
            "jwt": who.jwt,
            "sig": base64.b64encode(Key(who.seed).sign(nonce.encode())).decode(),
        }
        self._socket.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\nPING\r\n")
        while self._line() != b"PONG":
            pass

    def _next(self, reply: str, subject: str) -> Envelope | None:
        """The next thing the server says: an answer, or None for what is not one."""
        words = self._line().split(b" ")
        match words:
            case [b"MSG", on, _, size]:
                return decode(self._payload(size)) if on.decode() == reply else None
            case [b"HMSG", on, _, head, size]:
                payload = self._payload(size)
                if on.decode() != reply:
                    return None
                if payload.startswith(b"NATS/1.0 503"):
                    raise NobodyThere(f"Nobody listens on {subject} now; is it running?")
                return decode(payload[int(head) :])
        return None

    def _payload(self, size: bytes) -> bytes:
        data = self._file.read(int(size) + 2)
        if len(data) != int(size) + 2:
            raise ConnectionResetError("the server closed it")
        return data[:-2]

    def _line(self) -> bytes:
        line = self._file.readline(1 << 20)
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed it")
        line = line[:-2]
        if line == b"PING":
            self._socket.sendall(b"PONG\r\n")
        elif line.startswith(b"-ERR"):
            said = line[5:].decode(errors="replace").strip("'")
            raise Refused(f"The bus refused {self.name}: {said}.", reason="permission")
        return line


@contextmanager
def connect_once(url: str, who: Credentials, *, timeout: float = CONNECT_SECONDS) -> Iterator[OneShotBus]:
    """Connect for one question, to the first of the servers in `url` (commas between) that answers. Raises Disconnected
    when none does, Refused when it refuses us."""
    parts, connection = _reach(url.split(","), timeout)
    with connection:
        bus = OneShotBus(who.name, connection)
        try:
            bus.connect(who)
        except (OSError, ValueError) as error:
            raise Disconnected(f"The bus at {parts.hostname} does not speak to us ({error}).") from error
        yield bus


def _reach(urls: list[str], timeout: float) -> tuple[SplitResult, socket.socket]:
    for number, url in enumerate(urls, 1):
        parts = urlsplit(url)
        try:
            return parts, socket.create_connection(
                (parts.hostname or "127.0.0.1", parts.port or 4222), timeout
            )
        except OSError as error:
            if number == len(urls):
                raise Disconnected(
                    f"No bus could be reached at {parts.hostname}:{parts.port} ({error})."
                ) from error
    raise Disconnected("No bus was named.")
