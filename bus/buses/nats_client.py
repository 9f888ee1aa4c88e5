"""nats-py's client with a shorter way through it. Built on private attributes of nats-py 2.16: pin it.

What differs from the stock client, and why:

- A message goes from the parser straight to its receiver: no queue and no task for each subscription, so
  nothing is dropped on this side. A receiver that is too slow fills the socket, and the server cuts it off.
- What is published in one turn of the event loop leaves in one write, without waking the flusher task.
- The parser splits lines instead of matching six expressions, keeps the case of what the server says, and
  turns anything odd into a ProtocolError: the stock read loop would end on it, leaving a client that is
  connected and deaf. A PONG that comes after its flush gave up is one such case.
- Closing a socket whose peer has stopped reading is bounded: the stock client waits for ever in
  `wait_closed` and never comes to reconnecting.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any, Final

from nats.aio.client import DEFAULT_BUFFER_SIZE, Client, Srv
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.errors import ProtocolError
from nats.protocol.parser import Parser

Receiver = Callable[[str, str, bytes, str], None]
"""Called with subject, reply address ("" for none), payload and status ("" or such as "503"). Never raises."""

MAX_LINE: Final = 1_048_576
_CONGESTED: Final = 1_048_576
_CLOSE_SECONDS: Final = 1.0


class LeanClient(Client):
    """Use `listen` and `send`; of the stock methods only connect, flush and close."""

    def __init__(self, on_refused: Callable[[str], None]) -> None:
        super().__init__()
        self._ps = _LeanParser(self)
        self._receivers: dict[int, Receiver] = {}
        self._on_refused = on_refused
        self._flush_soon = False

    # sending

    def send(self, subject: str, reply: str, data: bytes) -> bool:
        """Hand over one message; False when there is no connection. Subjects must have been checked."""
        if self._status != Client.CONNECTED:
            return False
        head = f"PUB {subject} {reply} {len(data)}\r\n" if reply else f"PUB {subject} {len(data)}\r\n"
        self._pending.append(b"".join((head.encode(), data, b"\r\n")))
        self._pending_data_size += len(data) + 64
        if not self._flush_soon:
            self._flush_soon = True
            asyncio.get_running_loop().call_soon(self.write_out)
        return True

    def write_out(self) -> None:
        """Give everything that is pending to the socket now."""
        self._flush_soon = False
        if self._pending and self._transport is not None and self._status == Client.CONNECTED:
            pending, self._pending, self._pending_data_size = self._pending, [], 0
            self._transport.writelines(pending)

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that one should `unclog` before sending more."""
        transport = self._transport
        return self._pending_data_size > _CONGESTED or (
            isinstance(transport, _BoundedTransport) and transport.waiting > _CONGESTED
        )

    async def unclog(self) -> None:
        self.write_out()
        if self._transport is not None:
            await self._transport.drain()  # type: ignore[no-untyped-call]

    # receiving

    async def listen(self, pattern: str, receiver: Receiver) -> int:
        """Subscribe, now and after every reconnection; returns the number to `unlisten` with."""
        # A future makes nats-py start no task for this subscription.
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._sid += 1
        sid = self._sid
        self._receivers[sid] = receiver
        subscription = Subscription(self, sid, pattern, future=future)
        self._subs[sid] = subscription
        await self._send_subscribe(subscription)
        return sid

    async def unlisten(self, sid: int) -> None:
        self._receivers.pop(sid, None)
        if self._subs.pop(sid, None) is not None and self._status == Client.CONNECTED:
            await self._send_unsubscribe(sid)

    def receive(self, sid: int, subject: bytes, reply: bytes, data: bytes, status: str) -> None:
        receiver = self._receivers.get(sid)
        if receiver is not None:
            receiver(subject.decode("ascii", "replace"), reply.decode("ascii", "replace"), data, status)

    async def refused(self, text: str) -> None:
        """The server sent ``-ERR text``. A permission violation leaves the connection as it is."""
        if text.lower().startswith("permissions violation"):
            self._on_refused(text)
        else:
            await self._process_err(text.lower())

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        self.write_out()  # nats-py writes a PING past what is pending, so a flush would not cover it
        await super()._send_ping(future)

    async def _process_pong(self) -> None:
        if self._pongs:
            future = self._pongs.pop(0)
            self._pongs_received += 1
            self._pings_outstanding = 0
            if not future.done():
                future.set_result(True)

    # the connection

    def forget_servers(self) -> None:
        """Make the reconnection that is under way end, and the client close, at its next step."""
        self._server_pool.clear()

    def fail_flushes(self) -> None:
        """Whoever waits for a PONG of the connection that was lost need not wait for the timeout."""
        pongs, self._pongs = self._pongs, []
        for future in pongs:
            if not future.done():
                future.set_exception(ConnectionError("the connection was lost"))
                future.exception()  # a PING of the interval has nobody who would look

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        """As stock, but a socket that breaks meanwhile does not keep the callbacks from being called."""
        try:
            await super()._close(status, do_cbs)
        except OSError:
            if isinstance(self._transport, _BoundedTransport):
                self._transport.abort()
            if do_cbs and self._closed_cb is not None:
                await self._closed_cb()

    async def abandon(self) -> None:
        """Let go of the socket now, whatever is still to be sent."""
        if isinstance(self._transport, _BoundedTransport):
            self._transport.abort()
            with contextlib.suppress(OSError):
                await self._transport.wait_closed()

    async def _connect_to_server(self, s: Srv) -> None:
        if s.uri.scheme in ("ws", "wss"):
            await super()._connect_to_server(s)
            return
        s.last_attempt = time.monotonic()
        if not isinstance(self._transport, _BoundedTransport):
            self._transport = _BoundedTransport()  # type: ignore[no-untyped-call]
        await self._transport.connect(s.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])


class _BoundedTransport(TcpTransport):
    @property
    def waiting(self) -> int:
        """Bytes that the socket has not taken yet."""
        writer: asyncio.StreamWriter | None = self._io_writer
        return writer.transport.get_write_buffer_size() if writer is not None else 0

    async def wait_closed(self) -> None:
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await super().wait_closed()  # type: ignore[no-untyped-call]
        except TimeoutError:
            self.abort()

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: int) -> None:
        self.abort()  # a handshake that failed has left its socket
        await super().connect(uri, buffer_size, connect_timeout)

    def abort(self) -> None:
        if self._bare_io_writer is not None:
            self._bare_io_writer.transport.abort()


class _LeanParser(Parser):
    async def parse(self, data: bytes = b"") -> None:
        """Take what was read and hand on every whole message in it."""
        client: LeanClient = self.nc
        buf: bytearray = self.buf
        buf += data
        try:
            at = 0
            while (end := buf.find(b"\r\n", at)) >= 0:
                if buf.startswith(b"MSG ", at):
                    fields = bytes(buf[at + 4 : end]).split()
                    start = end + 2
                    stop = start + _size(fields[-1])
                    if len(buf) < stop + 2:
                        break
                    at = stop + 2
                    reply = fields[2] if len(fields) == 4 else b""
                    client.receive(int(fields[1]), fields[0], reply, bytes(buf[start:stop]), "")
                elif buf.startswith(b"HMSG ", at):
                    fields = bytes(buf[at + 5 : end]).split()
                    body = end + 2 + _size(fields[-2])
                    stop = end + 2 + _size(fields[-1])
                    if len(buf) < stop + 2:
                        break
                    at = stop + 2
                    headers = bytes(buf[end + 2 : body])  # b"NATS/1.0 503\r\n…" or b"NATS/1.0\r\n…"
                    status = headers.partition(b"\r\n")[0][9:12].decode("ascii", "replace")
                    reply = fields[2] if len(fields) == 5 else b""
                    client.receive(int(fields[1]), fields[0], reply, bytes(buf[body:stop]), status)
                else:
                    line = bytes(buf[at:end])
                    at = end + 2
                    await self._line(client, line)
                    if self.buf is not buf:  # the connection was lost meanwhile
                        return
            del buf[:at]
        except (ProtocolError, OSError):
            raise
        except Exception as error:
            raise ProtocolError(f"nats: {error}") from error
        if len(buf) > 4 * MAX_LINE and b"\r\n" not in buf:
            raise ProtocolError("nats: a line without an end")

    async def _line(self, client: LeanClient, line: bytes) -> None:
        match line[:4]:
            case b"PING":
                await client._process_ping()
            case b"PONG":
                await client._process_pong()
            case b"+OK":
                pass
            case b"-ERR":
                await client.refused(line[4:].decode("utf-8", "replace").strip().strip("'"))
            case b"INFO":
                await client._process_info(json.loads(line[5:]))
            case _:
                raise ProtocolError("nats: unknown protocol")


def _size(field: bytes) -> int:
    if not field.isdigit():
        raise ProtocolError("nats: a size that is none")
    return int(field)
