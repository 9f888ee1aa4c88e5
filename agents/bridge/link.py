"""The connection: kept open, opened again when it breaks, closed at the stop (E2).

One task keeps it. What comes in is handed to the runtime, in order within a room and at most `PLACES` at
once; while all places are taken nothing is read, so a flood waits at the far end. An answer goes out on
the connection that is open when it is ready, which may be a later one.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from swarm import Service
from swarm.agent.lifecycle import Phase
from swarm.components import Message, ServiceStatus
from swarm.errors import SwarmError
from swarm.ids import derived_id, new_id
from swarm.records import Content

from .frames import FRAME_BYTES, BadFrame, Inbound, read_frame, write_frame

log = logging.getLogger(__name__)

OPEN_SECONDS: Final = 8.0
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
DRAIN_SECONDS: Final = 5.0
PLACES: Final = 16
LOG_EVERY: Final = 100
"""Of a run of bad frames the first is logged, and then each hundredth with the count."""


class Link(Service):
    """`running` means connected: while it is not, the status is `error` and the connection is tried again.

    Settings: `BRIDGE_URL` (ws:// or wss://), `BRIDGE_TOKEN` (a secret, sent as a bearer token), `BRIDGE_RETRY_SECONDS`
    (the first wait, doubled up to a minute). The agent lives without its bridge.
    """

    service_type = "websocket"
    required = False

    def __init__(self, runtime: Any) -> None:
        self._phase = ServiceStatus.STOPPED
        self._socket: ClientConnection | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._url = ""
        self._tried = asyncio.Event()
        self._active = asyncio.Event()
        self._idle = asyncio.Event()
        self._open_places = asyncio.Semaphore(PLACES)
        self._rooms: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._unsubscribe: Callable[[], None] | None = None
        self._stopping = False
        self._in_hand = 0
        self._since = self._held = 0.0
        self.bad_frames = 0
        self.connections = 0
        super().__init__(runtime)

    @property
    def status(self) -> ServiceStatus:
        if self._phase is ServiceStatus.RUNNING and self._socket is None:
            return ServiceStatus.ERROR
        return self._phase

    @status.setter
    def status(self, phase: ServiceStatus) -> None:
        self._phase = phase

    # ── life ──────────────────────────────────────────────────────────────────────────────────────
    async def start(self) -> None:
        """Returns after the first try, connected or not. Raises ValueError if there is no usable address."""
        self._url = str(self.runtime.get_setting("BRIDGE_URL") or "")
        parts = urlsplit(self._url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError("set BRIDGE_URL to the far end's address, as in ws://localhost:9000/agents")
        self._stopping = False
        self._idle.set()
        self._unsubscribe = self.runtime.events.on("lifecycle:changed", self._phase_changed)
        if self.runtime.is_initialized:
            self._active.set()
        self._keeping = asyncio.get_running_loop().create_task(self._keep())
        try:
            await self._tried.wait()
        except BaseException:
            self._keeping.cancel()
            raise

    async def stop(self) -> None:
        """Finish what is in hand, by a bounded time, close the connection and end the task that keeps it."""
        self._stopping = True
        if self._unsubscribe is not None:
            self._unsubscribe()
        try:
            if self._socket is not None:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._idle.wait()
                    await self._socket.close()
        except TimeoutError:
            log.warning("the bridge closes with %d messages in hand", self._in_hand)
        finally:
            if self._keeping is not None:
                self._keeping.cancel()
                await asyncio.gather(self._keeping, return_exceptions=True)

    def _phase_changed(self, fields: dict[str, Any]) -> None:
        if fields["new"] is Phase.ACTIVE:
            self._active.set()

    async def _keep(self) -> None:
        first = wait = float(self.runtime.get_setting("BRIDGE_RETRY_SECONDS", FIRST_WAIT))
        token = self.runtime.get_setting("BRIDGE_TOKEN")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with asyncio.TaskGroup() as turns:
            while not self._stopping:
                reason = "the far end closed the connection"
                try:
                    async with connect(
                        self._url,
                        additional_headers=headers,
                        open_timeout=OPEN_SECONDS,
                        close_timeout=2.0,
                        max_size=FRAME_BYTES,
                    ) as socket:
                        await self._opened(socket)
                        await self._read(socket, turns)
                except (OSError, TimeoutError, WebSocketException) as error:
                    reason = f"{type(error).__name__}: {error}"
                finally:
                    self._held = time.monotonic() - self._since if self._socket else 0.0
                    self._socket = None
                if self._held > wait:
                    wait = first
                if not self._stopping:
                    await self._lost(reason, wait)
                    await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
                    wait = min(wait * 2, LONGEST_WAIT)

    async def _opened(self, socket: ClientConnection) -> None:
        self._socket, self._since = socket, time.monotonic()
        self.connections += 1
        log.info("the bridge is connected")
        await self._tell("running", "")
        self._tried.set()

    async def _lost(self, reason: str, wait: float) -> None:
        log.warning("the bridge is not connected (%s); trying again within %.1f s", reason, wait)
        await self._tell("error", reason)
        self._tried.set()

    async def _tell(self, status: str, error: str) -> None:
        await self.runtime.events.emit(
            "service:status", service=self.service_type, status=status, error=error
        )

    # ── in ────────────────────────────────────────────────────────────────────────────────────────
    async def _read(self, socket: ClientConnection, turns: asyncio.TaskGroup) -> None:
        """Until the far end closes. No frame ends it, whatever is in it."""
        await self._active.wait()
        async for raw in socket:
            try:
                frame = read_frame(raw)
            except BadFrame as error:
                self._count_bad(error)
                await self.send({"error": str(error)})
                continue
            if self._stopping:
                await self.send({"in_reply_to": frame.id, "error": "The agent is stopping; try again later."})
                continue
            await self._open_places.acquire()
            self._in_hand += 1
            self._idle.clear()
            turns.create_task(self._handle(frame))

    def _count_bad(self, error: BadFrame) -> None:
        self.bad_frames += 1
        self.runtime.metrics.count_failure("service", self.service_type)
        if self.bad_frames % LOG_EVERY == 1:
            log.warning("bad frame %d from the far end: %s", self.bad_frames, error)

    async def _handle(self, frame: Inbound) -> None:
        room = f"bridge:{frame.room}"
        message = Message(
            id=derived_id(self.runtime.agent_id, room, frame.sender, frame.id) if frame.id else new_id(),
            sender=f"bridge:{frame.sender}",
            room=room,
            kind="ask",
            content=Content(text=frame.text, data=frame.data),
            received_at=int(time.time() * 1000),
        )
        lock = self._rooms.setdefault(room, asyncio.Lock())
        answer: dict[str, Any] = {"in_reply_to": frame.id, "room": frame.room}
        try:
            async with lock:
                result = await self.runtime.process_message(message)
            response = result.response or Content()
            answer |= {"status": result.status, "text": response.text, "data": response.data}
            if result.error:
                answer["error"] = result.error
        except SwarmError as error:
            answer["error"] = str(error)
        except Exception as error:
            log.exception("a message over the bridge could not be handled")
            answer["error"] = f"The agent failed: {type(error).__name__}."
        finally:
            self._open_places.release()
        try:
            if not await self.send(answer):
                log.warning("an answer was dropped: the bridge is not connected")
        finally:
            self._in_hand -= 1
            if not self._in_hand:
                self._idle.set()

    # ── out ───────────────────────────────────────────────────────────────────────────────────────
    async def send(self, fields: dict[str, Any]) -> bool:
        """Send one frame; False when nobody is connected. Nothing is kept for later."""
        if self._socket is None:
            return False
        try:
            await self._socket.send(write_frame(fields))
        except ConnectionClosed:
            return False
        return True
