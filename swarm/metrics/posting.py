"""One HTTP request, bounded in time and size, over a connection of its own.

On h11, because an agent is one process of hundreds: importing httpx costs each 24 MB, h11 not one. Redirects are
not followed: what is sent may carry a token, which is for the host that was named and no other.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import SplitResult, urlsplit

from swarm.errors import ConfigError

if TYPE_CHECKING:
    import h11

MOST_BYTES: Final = 65_536
"""Of an answer that are read; what is beyond is left."""


class Address:
    """Where to post. Its `str` and `repr` are the scheme and the host: path and query may hold a key."""

    __slots__ = ("host", "port", "secure", "target")

    def __init__(self, url: str) -> None:
        """Raises ConfigError, which does not repeat the URL, for what is none of http or https."""
        try:
            parts: SplitResult = urlsplit(url.strip())
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"it is not a URL ({error})") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("it is not an http:// or https:// URL")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("it holds a user or a password; send those as a header")
        self.secure = parts.scheme == "https"
        self.host = parts.hostname
        self.port = port or (443 if self.secure else 80)
        self.target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not (self.target + self.host).isascii() or any(c <= " " for c in self.target + self.host):
            raise ConfigError("it has characters that a URL cannot have; write them as %XX")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.secure else ''}://{host}:{self.port}"

    __repr__ = __str__


class Answered(NamedTuple):
    status: int
    content_type: str
    body: bytes


class NotPosted(Exception):
    """No answer: a short clause that says why."""


async def post(address: Address, body: bytes, headers: Mapping[str, str], *, seconds: float) -> Answered:
    """Send `body` and read the answer, all within `seconds`. Raises NotPosted when there is none."""
    late = asyncio.timeout(seconds)
    try:
        async with late:
            return await _post(address, body, headers)
    except TimeoutError:
        if late.expired():
            raise NotPosted(f"it did not answer within {seconds:g} s") from None
        raise NotPosted("the connection timed out") from None
    except OSError as error:
        raise NotPosted(f"it cannot be reached ({error.strerror or type(error).__name__})") from None


async def _post(address: Address, body: bytes, headers: Mapping[str, str]) -> Answered:
    import h11

    tls = await asyncio.to_thread(ssl.create_default_context) if address.secure else None
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=tls, server_hostname=address.host if tls else None
    )
    connection = h11.Connection(h11.CLIENT)
    try:
        request = h11.Request(
            method="POST",
            target=address.target,
            headers=[
                ("Host", str(address).partition("://")[2]),
                ("Content-Length", str(len(body))),
                ("Connection", "close"),
                *headers.items(),
            ],
        )
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            writer.write(connection.send(event) or b"")
        await writer.drain()
        return await _answer(connection, reader)
    except h11.ProtocolError:
        raise NotPosted("its answer is missing, broken off, or not HTTP") from None
    finally:
        writer.transport.abort()  # everything is read, or nobody waits for it any more


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader) -> Answered:
    import h11

    status, content_type, body = 0, "", b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(MOST_BYTES))
        elif isinstance(event, h11.Response):
            status = event.status_code
            found = [value for name, value in event.headers if name == b"content-type"]
            content_type = found[0].decode("latin-1").lower() if found else ""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        if len(body) >= MOST_BYTES or isinstance(event, h11.EndOfMessage):
            return Answered(status, content_type, body[:MOST_BYTES])
