"""A bad line between processes and a server: a TCP proxy on loopback that the nemesis cuts, slows, and swallows.

A fault is for everybody, or for the processes named: whose connection it is, the kernel tells.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from dataclasses import dataclass, field

import psutil


@dataclass(eq=False)
class Link:
    """One connection. `port` is the client's end, by which the kernel tells whose it is."""

    port: int
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    flows: asyncio.Event = field(default_factory=asyncio.Event)

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Wire:
    """`url_port` is where clients connect. All of it runs on the loop that opened it."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._swallow = False
        self._banned: frozenset[int] | None = frozenset()

    async def open(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        self._server.close()
        for link in self._links:
            link.hang_up()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def open_links(self) -> int:
        return len(self._links)

    # ── what the nemesis does ─────────────────────────────────────────────────────────────────────
    def hang_up(self) -> None:
        """Every connection ends, both ways; newcomers are served."""
        for link in self._links:
            link.hang_up()

    def delay(self, seconds: float) -> None:
        """Whatever goes through comes later."""
        self._delay = seconds

    def swallow(self) -> None:
        """Each connection ends as its server answers next: what was asked is done, and nobody hears."""
        self._swallow = True

    def stall(self) -> None:
        """Connections stay and carry nothing, as a cable that is pulled."""
        for link in self._links:
            link.flows.clear()
        self._banned = None

    def part(self, pids: Collection[int]) -> None:
        """These processes are cut off, and whoever of them connects again."""
        self._banned = frozenset(pids)
        ports = _ports_of(self._banned)
        for link in self._links:
            if link.port in ports:
                link.hang_up()

    def heal(self) -> None:
        self._delay, self._swallow, self._banned = 0.0, False, frozenset()
        for link in self._links:
            link.flows.set()

    # ── how ───────────────────────────────────────────────────────────────────────────────────────
    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            port = int(writer.get_extra_info("peername")[1])
            if self._banned and port in _ports_of(self._banned):
                writer.transport.abort()
                return
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
            except OSError:  # the server is being restarted
                writer.transport.abort()
                return
            link = Link(port, (writer, up_writer))
            if self._banned is not None:
                link.flows.set()
            self._links.add(link)
            try:
                await asyncio.gather(
                    self._pump(link, reader, up_writer, False), self._pump(link, up_reader, writer, True)
                )
            finally:
                link.hang_up()
                self._links.discard(link)
        finally:
            self._tasks.discard(task)

    async def _pump(
        self, link: Link, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65536):
                if self._delay:
                    await asyncio.sleep(self._delay)
                await link.flows.wait()
                if answers and self._swallow:
                    break
                sink.write(octets)
                await sink.drain()
        link.hang_up()


def _ports_of(pids: Collection[int]) -> set[int]:
    """The local ports of these processes' connections; of those that live."""
    ports = set()
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            ports |= {
                connection.laddr.port
                for connection in psutil.Process(pid).net_connections("tcp")
                if connection.laddr
            }
    return ports
