"""The warm parent: a plain process with no thread, no event loop and one socket. It forks and it reaps.

It reads requests from the socket to the node and notices of ended children from the signal's pipe, one at a
time, so nothing here can happen at once.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

from deploy.processes import kill_group, set_death_signal
from deploy.zygote.child import become
from deploy.zygote.wire import (
    Answer,
    Exited,
    Fork,
    Forked,
    Frames,
    Ready,
    Signal,
    Start,
    Stop,
    frame,
    read_request,
)

GRACE_WITHOUT_NODE = 5.0
"""Seconds that children have to drain when the node has died."""

PR_SET_CHILD_SUBREAPER = 36


class WarmParent:
    def __init__(self, node: socket.socket) -> None:
        self._node = node
        self._frames = Frames()
        self._children: dict[int, str] = {}  # pid and name
        self._end_by: float | None = None  # when the remaining children are killed
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, lambda *_: None)  # the pipe tells of it; nothing is done in a handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the node's to handle
        self._ready_to_read = selectors.DefaultSelector()
        self._ready_to_read.register(node, selectors.EVENT_READ, self._hear_node)
        self._ready_to_read.register(self._wake, selectors.EVENT_READ, self._hear_signal)

    def run(self) -> int:
        while self._end_by is None or self._children:
            wait = None if self._end_by is None else max(0.0, self._end_by - time.monotonic())
            for key, _ in self._ready_to_read.select(wait):
                key.data()
            if self._end_by is not None and time.monotonic() >= self._end_by:
                for pid in self._children:
                    _kill(pid, signal.SIGKILL, group=True)
                self._end_by = time.monotonic() + 1.0
        self._kill_left()
        return 0

    # What the node says

    def _hear_node(self) -> None:
        try:
            data = self._node.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._ready_to_read.unregister(self._node)
            self._stop(GRACE_WITHOUT_NODE)
            return
        for body in self._frames.feed(data):
            match read_request(body):
                case Start(preload):
                    self._preload(preload)
                case Fork() as request:
                    self._fork(request)
                case Signal(pid, number, group):
                    self._signal(pid, number, group)
                case Stop(grace):
                    self._stop(grace)

    def _say(self, answer: Answer) -> None:
        with contextlib.suppress(OSError):  # the node is gone; its end of the socket tells us so
            self._node.sendall(frame(answer))

    def _preload(self, names: list[str]) -> None:
        began = time.monotonic()
        failed: dict[str, str] = {}
        for name in names:
            try:
                _load(name)
            except BaseException as error:  # whatever a module does, the node must hear of it
                failed[name] = f"{type(error).__name__}: {error}"
        gc.collect()
        gc.freeze()
        self._say(Ready(failed, time.monotonic() - began))
        if failed:
            self._stop(0)

    def _fork(self, request: Fork) -> None:
        if self._end_by is not None:
            self._say(Forked(request.id, request.name, 0, "the warm parent is ending"))
            return
        parent = os.getpid()
        # A signal to a child that has not yet its own handlers must wait for them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                become(request, parent)
        except OSError as error:
            self._say(Forked(request.id, request.name, 0, f"cannot fork: {error.strerror}"))
            return
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._children[pid] = request.name
        self._say(Forked(request.id, request.name, pid))

    def _signal(self, pid: int, number: int, group: bool) -> None:
        if pid not in self._children:
            return  # reaped: its pid may be another's by now
        _kill(pid, number, group)

    def _stop(self, grace: float) -> None:
        end_by = time.monotonic() + grace
        if self._end_by is None or end_by < self._end_by:
            self._end_by = end_by
        for pid in self._children:
            _kill(pid, signal.SIGTERM)

    # What the kernel says

    def _hear_signal(self) -> None:
        numbers = b""
        with contextlib.suppress(BlockingIOError):
            numbers = os.read(self._wake, 4096)
        if signal.SIGTERM in numbers:
            self._stop(GRACE_WITHOUT_NODE)
        while ended := self._ended():
            pid = ended.si_pid
            if pid in self._children:
                # Before it is reaped, so that its number is nobody else's: what it started must not stay.
                kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            if pid in self._children:
                name = self._children.pop(pid)
                killed = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
                code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
                cpu = usage.ru_utime + usage.ru_stime
                self._say(Exited(pid, name, code, killed, cpu, usage.ru_maxrss * 1024))
                self._kill_left()

    def _ended(self) -> os.waitid_result | None:
        try:
            return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None

    def _kill_left(self) -> None:
        """Kills what an ended child had started in a session of its own: as its reaper we got it."""
        try:
            ours = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        except OSError:
            return
        for pid in map(int, ours):
            if pid not in self._children:
                _kill(pid, signal.SIGKILL)


def _kill(pid: int, number: int, group: bool = False) -> None:
    if not (group and kill_group(pid, number)):  # a child is not yet its group's leader at its very start
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _load(name: str) -> None:
    """Imports a module, or calls a function of it once; refuses what a forked child could not use safely."""
    module, _, function = name.partition(":")
    loaded = importlib.import_module(module)
    if function:
        getattr(loaded, function)()
    tasks = Path("/proc/self/task")
    if tasks.exists() and len(list(tasks.iterdir())) > 1:
        raise RuntimeError("it started a thread, which no fork survives")


def main(descriptor: int, node: int) -> NoReturn:
    """Runs on an inherited socket until it ends; `node` is the pid at its other end."""
    set_death_signal(signal.SIGTERM, node)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    gc.disable()  # a collection would move what children share; they turn it on
    sys.exit(WarmParent(socket.socket(fileno=descriptor)).run())
