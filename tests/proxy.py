"""A bad line to a real server: a TCP proxy on loopback that a test can cut."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """A TCP proxy that can swallow the server's answers, and refuse newcomers."""

    def __init__(self, url: str, host: str = "127.0.0.1") -> None:
        self._host = host
        self._target = urlsplit(url)
        self.swallow = False
        """Cut each connection as soon as the server answers on it: what was asked is done, and nobody hears."""
        self.refuse = False
        """Whoever connects is cut off at once."""
        self.refused = 0
        self.cut = 0

    async def __aenter__(self) -> Proxy:
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        return self

    def hang_up(self) -> None:
        """Cut every connection there is, both ways."""
        for writer in self._writers:
            writer.transport.abort()

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, url: str) -> str:
        parts = urlsplit(url)
        port = self._server.sockets[0].getsockname()[1]
        return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@{self._host}:{port}"))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            self.refused += 1
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._writers += [writer, up_writer]
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        await asyncio.gather(self._pump(reader, up_writer, False), self._pump(up_reader, writer, True))
        for end in (writer, up_writer):
            end.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65536):
                if answers and self.swallow:
                    self.cut += 1
                    break
                sink.write(octets)
                await sink.drain()
        sink.transport.abort()
