"""Three pages for whoever looks after a process: `/health`, `/ready` and `/metrics`, over HTTP, read only.

Liveness and readiness are two questions. `/health` is answered by the event loop itself, so that a blocked one is
replaced; it asks nothing of others, for a database that is away is no reason to kill anybody. `/ready` says
whether the work can be done now, with its reasons. On h11: no framework for three pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from swarm.errors import ConfigError
from swarm.metrics.family import Family
from swarm.metrics.prometheus import CONTENT_TYPE, render

if TYPE_CHECKING:
    import h11

log = logging.getLogger(__name__)

REQUEST_SECONDS: Final = 10.0
"""From the connection to the last byte of the answer."""
READY_SECONDS: Final = 5.0
MOST_AT_ONCE: Final = 16

Reasons = Callable[[], Awaitable[Sequence[str]]]
Families = Callable[[], Awaitable[Iterable[Family]]]


class Page(NamedTuple):
    status: int
    content_type: str
    body: bytes


class Pages:
    """`address` is HOST:PORT; `ready` returns why not, nothing when it is; `families` what `/metrics` shows."""

    def __init__(self, address: str, ready: Reasons, families: Families) -> None:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) < 65_536:
            raise ConfigError(f"{address!r} is not HOST:PORT, as in 127.0.0.1:9100.")
        self._host, self._port = host.strip("[]"), int(port)
        self._ready = ready
        self._families = families
        self._slots = asyncio.Semaphore(MOST_AT_ONCE)
        self.port = asyncio.get_running_loop().create_future()
        """The port that is listened on, once it is: another than asked for where that was 0."""

    async def run(self) -> None:
        """Serve until cancelled. Raises ConfigError when the address cannot be had."""
        try:
            server = await asyncio.start_server(self._connected, self._host, self._port)
        except OSError as error:
            raise ConfigError(
                f"{self._host}:{self._port} cannot be listened on: {error.strerror}."
            ) from error
        self.port.set_result(server.sockets[0].getsockname()[1])
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            try:
                async with asyncio.timeout(REQUEST_SECONDS), self._slots:
                    await self._serve(reader, writer)
            finally:
                writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        import h11

        connection = h11.Connection(h11.SERVER)
        try:
            request = await _request(connection, reader)
            page = await self.page(request.method.decode(), request.target.decode().partition("?")[0])
        except h11.ProtocolError:
            page = _text(400, "That is no HTTP.")
        if connection.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [
                ("content-type", page.content_type),
                ("content-length", str(len(page.body))),
                ("connection", "close"),
            ]
            response = h11.Response(status_code=page.status, headers=headers)
            for event in (response, h11.Data(data=page.body), h11.EndOfMessage()):
                writer.write(connection.send(event) or b"")
            await writer.drain()

    async def page(self, method: str, path: str) -> Page:
        """What is at `path`: 200, or 503 when not ready, 404 and 405 for what is not here."""
        if method not in ("GET", "HEAD"):
            return _text(405, "These pages are read only.")
        match path:
            case "/health":
                page = _json(200, {"status": "alive"})
            case "/ready":
                reasons = await self._reasons()
                page = _json(503 if reasons else 200, {"ready": not reasons, "reasons": list(reasons)})
            case "/metrics":
                page = await self._metrics()
            case _:
                page = _text(404, "Here are /health, /ready and /metrics.")
        return page if method == "GET" else page._replace(body=b"")

    async def _reasons(self) -> Sequence[str]:
        try:
            async with asyncio.timeout(READY_SECONDS):
                return await self._ready()
        except TimeoutError:
            return [f"Nobody knows: the check did not end within {READY_SECONDS:g} s."]
        except Exception as error:
            log.exception("whether this process is ready could not be found out")
            return [f"Nobody knows: the check failed with {type(error).__name__}."]

    async def _metrics(self) -> Page:
        try:
            text = render(await self._families())
        except Exception:
            log.exception("the metrics could not be read")
            return _text(503, "The metrics cannot be read now; see the log.")
        return Page(200, CONTENT_TYPE, text.encode())


async def _request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    import h11

    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(4096))
        elif isinstance(event, h11.Request):
            return event
        else:
            raise h11.RemoteProtocolError("a request was expected")


def _json(status: int, value: object) -> Page:
    return Page(status, "application/json", json.dumps(value).encode() + b"\n")


def _text(status: int, text: str) -> Page:
    return Page(status, "text/plain; charset=utf-8", text.encode() + b"\n")
