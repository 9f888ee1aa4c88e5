"""The node's side of the warm parent: asyncio, without a task of its own (answers arrive as callbacks)."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from deploy.processes import ProcessId, end, end_strays, open_log, spawn
from deploy.zygote.wire import (
    Answer,
    Exited,
    Fork,
    Forked,
    Frames,
    Ready,
    Request,
    Signal,
    Start,
    Stop,
    frame,
    read_answer,
)
from swarm.errors import SwarmError

log = logging.getLogger(__name__)

BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from deploy.zygote.parent import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)


class ZygoteFailed(SwarmError):
    """The warm parent cannot start, has died, or cannot fork."""

    exit_code = 69


class Zygote(asyncio.Protocol):
    """A running warm parent. Make one with `start`, on the main thread; `stop` it, or read `lost`."""

    def __init__(self, child: subprocess.Popen[bytes], mark: str, on_exit: Callable[[Exited], None]) -> None:
        self._child = child
        self._process = ProcessId.of(child.pid) or ProcessId(child.pid, "")
        self._mark = mark
        self._on_exit = on_exit
        self._frames = Frames()
        self._next = 0
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._living: dict[int, str] = {}
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self.preload_seconds = 0.0

    @classmethod
    async def start(
        cls,
        *,
        preload: Sequence[str],
        on_exit: Callable[[Exited], None],
        log_file: Path,
        mark: str = "",
        environment: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Zygote:
        """Starts the warm parent and returns when all of `preload` is in its memory.

        `preload`: module names; ``module:function`` is called once, for what imports lazily. One that cannot
        be imported, or starts a thread, raises ZygoteFailed by name. `on_exit` is called on the loop, once
        for each child that ends. Everything below carries `mark` in its environment (empty: one of its own).
        """
        ours, theirs = socket.socketpair()
        mark = mark or uuid4().hex
        with theirs:
            child = spawn(
                [sys.executable, "-c", BOOT, str(theirs.fileno()), str(os.getpid()), json.dumps(sys.path)],
                log_file=log_file,
                mark=mark,
                environment=environment,
                death_signal=signal.SIGTERM,
                pass_fds=[theirs.fileno()],
            )
        zygote = cls(child, mark, on_exit)
        try:
            ours.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda: zygote, sock=ours)
            zygote._send(Start(list(preload)))
            async with asyncio.timeout(timeout):
                ready = await zygote._ready
        except BaseException as error:
            if zygote._transport is not None:
                zygote._transport.abort()  # it owns the socket, which must not be closed under it
            else:
                ours.close()
            await zygote._finish(0.5)
            if isinstance(error, TimeoutError):
                raise ZygoteFailed(f"The warm parent did not preload within {timeout:g} s.") from None
            raise
        if ready.failed:
            await zygote._finish(0.5)
            told = "; ".join(f"{name} ({why})" for name, why in ready.failed.items())
            raise ZygoteFailed(f"The warm parent cannot preload {told}; install it or take it out.")
        zygote.preload_seconds = ready.seconds
        return zygote

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def mark(self) -> str:
        return self._mark

    @property
    def living(self) -> frozenset[int]:
        """The pids of children that have not been reported as ended."""
        return frozenset(self._living)

    async def fork(
        self,
        entry: str,
        spec: bytes,
        *,
        name: str,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> int:
        """The pid of a new child that calls ``module:function`` with `spec`; its int result is its exit code.

        An entry that cannot be imported shows in its log and as exit code 1. A pid is the child's until
        `on_exit` has told of it, which for a child that ends at once may be before this returns: `name` tells
        whose end it is. Raises ZygoteFailed.
        """
        if self._lost.is_set() or self._transport is None:
            raise ZygoteFailed("The warm parent is gone; start another.", reason="lost")
        with open_log(log_file):
            pass  # puts one away that is too long, before the child holds it
        self._next += 1
        number = self._next
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        self._send(Fork(number, name, entry, spec, str(Path.cwd() / log_file), dict(environment or {})))
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(answer)
        except (TimeoutError, asyncio.CancelledError) as error:
            # Whatever is forked for nobody must not run.
            answer.add_done_callback(self._unwanted)
            if isinstance(error, TimeoutError):
                raise ZygoteFailed(f"The warm parent did not fork within {timeout:g} s.") from None
            raise

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        """Signals a child, or its whole group; nothing happens if it has ended."""
        self._send(Signal(pid, int(number), group))

    async def stop(self, grace: float = 25.0) -> None:
        """SIGTERM to all children, `grace` seconds later SIGKILL; returns when nothing of it is left."""
        self._send(Stop(grace))
        await self._finish(grace + 5.0)

    async def lost(self) -> None:
        """Returns when the warm parent has ended; asked for or not, its children are ended too by then.

        After an unasked end, `on_exit` has been called for each child, with signal 9.
        """
        await self._lost.wait()
        await self._finish(1.0)

    async def _finish(self, seconds: float) -> None:
        if not await self._process.gone(seconds):
            await end(self._process, ((signal.SIGTERM, 1.0), (signal.SIGKILL, 2.0)))
        self._child.wait()
        if self._transport is not None:
            await self._lost.wait()  # the last exits are still in the socket
            self._transport = None
        if ended := await end_strays(self._mark, grace=0.2):
            log.info("%d processes were still there after the warm parent and were ended", ended)

    def _send(self, request: Request) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(request))

    def _unwanted(self, answer: asyncio.Future[int]) -> None:
        if not answer.cancelled() and answer.exception() is None:
            self.signal(answer.result(), signal.SIGKILL)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for body in self._frames.feed(data):
            self._heard(read_answer(body))

    def connection_lost(self, exc: Exception | None) -> None:
        gone = ZygoteFailed("The warm parent has ended; start another.", reason="lost")
        futures: list[asyncio.Future[Any]] = [self._ready, *self._waiting.values()]
        for future in futures:
            if not future.done():
                future.set_exception(gone)
                future.exception()  # an answer that nobody awaits any more is no error of its own
        self._waiting.clear()
        for pid, name in list(self._living.items()):  # the kernel killed them with their parent
            self._told_exit(Exited(pid, name, 0, signal.SIGKILL, 0.0, 0))
        self._lost.set()

    def _heard(self, answer: Answer) -> None:
        match answer:
            case Ready():
                if not self._ready.done():
                    self._ready.set_result(answer)
            case Forked(number, name, pid, error):
                waiting = self._waiting.pop(number, None)
                if pid:
                    self._living[pid] = name
                if waiting is None or waiting.done():
                    return
                if error:
                    waiting.set_exception(ZygoteFailed(f"No process could be forked: {error}."))
                else:
                    waiting.set_result(pid)
            case Exited():
                self._told_exit(answer)

    def _told_exit(self, exited: Exited) -> None:
        self._living.pop(exited.pid, None)
        try:
            self._on_exit(exited)
        except Exception:
            log.exception("a callback failed for the end of process %d", exited.pid)
