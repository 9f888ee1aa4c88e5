"""A server that we run ourselves in a folder: the part that is the same for NATS and Postgres.

A life, in order: lock the folder (a second supervisor is told who has it) → deal with a server that a dead
supervisor left (adopt it or end it) → prepare → launch on a port → ready → … → stop: ask, wait, kill.

    FOLDER/lock          held by the supervisor as long as it lives (flock; the kernel lets it go)
    FOLDER/server.json   pid, start time and port of the server; written before it runs
    FOLDER/NAME.log      what it says, bounded

A server gets a death signal, so it ends with its supervisor however that ends; with `outlive` it does not,
and the next start adopts what can be adopted. Nothing here depends on one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.processes import (
    ProcessId,
    Rights,
    end,
    kill_group,
    open_log,
    read_record,
    spawn,
    trim_log,
)
from swarm.errors import SwarmError

log = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


class ServerFailed(SwarmError):
    """An embedded server cannot be started, or does not run as it should."""

    exit_code = 69


class FolderTaken(ServerFailed):
    """Another supervisor runs a server in this folder."""


class PortTaken(ServerFailed):
    """The port asked for is another program's."""


class NotYet(Exception):
    """The server ended at once for a reason that passes; the text says which."""


class EmbeddedServer:
    """Start, watch and stop one server in one folder. `port` 0 takes a free one, the last one if it is free.

    `mark` is put into its environment (see `deploy.processes.MARK`).
    """

    name: ClassVar[str]
    death_signal: ClassVar[int]
    stop_steps: ClassVar[Sequence[tuple[int, float]]]
    """Signals, and the share of the time allowed for each."""

    def __init__(self, folder: Path | str, port: int = 0, *, outlive: bool = False, mark: str = "") -> None:
        self.folder = Path(folder).resolve()
        self._asked_port = port
        self._outlive = outlive
        self._mark = mark
        self._port = 0
        self._process: ProcessId | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None
        self._stopping = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.folder)!r}, port={self._port or self._asked_port})"

    # What a server is asked for

    @property
    def url(self) -> str:
        raise NotImplementedError

    async def _prepare(self, deadline: float) -> None:
        """Whatever the server needs before it is launched; the folder exists and is ours."""

    def _command(self, port: int) -> tuple[Sequence[str | Path], Mapping[str, str], Rights, Path | None]:
        """Its argv, environment, rights and working folder."""
        raise NotImplementedError

    async def _ready(self, process: ProcessId, port: int) -> bool:
        """Whether this very process serves on that port."""
        raise NotImplementedError

    async def _adopt(self, process: ProcessId, port: int) -> bool:
        """Whether a server that a dead supervisor left may go on as ours."""
        return False

    def _excuse(self, said: str) -> str:
        """The passing reason in what a server said before it ended; empty if it is a real failure."""
        return "its port was taken" if "address already in use" in said.lower() else ""

    async def _sweep(self, seconds: float) -> None:
        """Ends what is left of the server when its main process is gone."""

    # Its life

    @property
    def log_file(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def port(self) -> int:
        return self._port

    @property
    def process(self) -> ProcessId | None:
        return self._process

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._reap() is None and self._process.alive()

    async def start(self, timeout: float = 60.0) -> None:
        """Returns when the server answers; raises ServerFailed when it cannot, and then leaves no process.

        May be called again after the server has ended.
        """
        if self.running:
            return
        deadline = _now() + timeout
        self._stopping = False
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        try:
            async with asyncio.timeout_at(deadline):
                if await self._take_over(deadline):
                    return
                await self._sweep(5.0)
                await self._prepare(deadline)
                await self._launch()
        except TimeoutError:
            await self._abandon()
            raise ServerFailed(
                f"{self.name} was not ready within {timeout:g} s; see {self.log_file}.", reason="too_slow"
            ) from None
        except BaseException:
            await self._abandon()
            raise
        log.info("%s runs on port %d as process %d", self.name, self._port, self.pid or 0)

    async def stop(self, timeout: float = 10.0) -> None:
        """Asks the server to end, then makes it; returns when it is gone. Does nothing if it does not run."""
        self._stopping = True
        process = self._process
        if process is not None:
            ended = await end(process, [(number, timeout * share) for number, share in self.stop_steps])
            if not ended:
                raise ServerFailed(
                    f"{self.name} (process {process.pid}) does not end.", reason="does_not_end"
                )
            self._reap()
            await self._sweep(timeout)
        self._process = self._child = None
        self._release_lock()

    async def watch(self, trim_every: float = 20.0) -> str:
        """Waits until the server ends without being asked, and says how; meanwhile bounds its log.

        The owner runs this as long as the server is wanted, and calls `start` again when it returns.
        Returns an empty text after `stop`.
        """
        process = self._process
        while process is not None and not await process.gone(trim_every):
            await asyncio.to_thread(trim_log, self.log_file)
        if self._stopping or process is None:
            return ""
        code = self._reap()
        how = (
            "ended"
            if code is None
            else f"ended with {code}"
            if code >= 0
            else f"was killed by signal {-code}"
        )
        return f"{self.name} (process {process.pid}) {how}; see {self.log_file}."

    # Steps of start

    async def _take_over(self, deadline: float) -> bool:
        left, facts = read_record(self.folder / "server.json")
        last_port = facts.get("port", 0)
        self._port = last_port if isinstance(last_port, int) else 0
        if left is None:
            return False
        if self._asked_port in (0, self._port) and await self._adopt(left, self._port):
            self._process, self._child = left, None
            log.info("%s (process %d) outlived its supervisor and is adopted", self.name, left.pid)
            return True
        log.info("%s (process %d) of a dead supervisor is ended", self.name, left.pid)
        seconds = max(1.0, min(10.0, (deadline - _now()) / 2))
        await end(left, [(number, seconds * share) for number, share in self.stop_steps])
        return False

    async def _launch(self) -> None:
        excuse, wait = "", 0.02
        while True:
            port = self._choose_port()
            offset = log_size(self.log_file)
            argv, environment, rights, cwd = self._command(port)
            self._child = spawn(
                argv,
                log_file=self.log_file,
                cwd=cwd,
                environment=environment,
                mark=self._mark,
                death_signal=0 if self._outlive else self.death_signal,
                rights=rights,
                record=self.folder / "server.json",
                facts={"port": port},
            )
            self._process = ProcessId.of(self._child.pid)
            try:
                await self._until_ready(port, offset)
                self._port = port
                return
            except NotYet as reason:
                excuse = str(reason)
            log.info("%s starts again: %s", self.name, excuse)
            self._port = 0
            await asyncio.sleep(wait)
            wait = min(0.5, wait * 2)

    async def _until_ready(self, port: int, offset: int) -> None:
        while True:
            if self._reap() is not None or self._process is None:
                code = self._child.wait() if self._child else None
                said = log_tail(self.log_file, offset)
                if excuse := self._excuse(said):
                    raise NotYet(excuse)
                raise ServerFailed(
                    f"{self.name} ended at its start with {code}: {_reason(said)}; see {self.log_file}.",
                    reason="ended_at_start",
                )
            if await self._ready(self._process, port):
                return
            await asyncio.sleep(0.015)

    def _choose_port(self) -> int:
        wanted = self._asked_port or self._port
        if wanted and port_is_free(wanted):
            return wanted
        if self._asked_port:
            raise PortTaken(
                f"Port {wanted} of {LOOPBACK} is another program's; give {self.name} another, or 0 for any.",
                reason="port_taken",
            )
        return free_port()

    async def _abandon(self) -> None:
        if self._child is not None:
            kill_group(self._child.pid)
            if self._process is not None:
                await self._process.gone(2.0)
            self._child.wait()
            with contextlib.suppress(ServerFailed):
                await self._sweep(2.0)
        self._process = self._child = None
        self._release_lock()

    def _reap(self) -> int | None:
        """The exit code of our child, if it has ended; an adopted server has none."""
        return self._child.poll() if self._child is not None else None

    def _take_lock(self) -> None:
        if self._lock is not None:
            return
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise FolderTaken(
                f"{self.folder} is in use by process {holder}; stop that one, or use another folder.",
                reason="folder_taken",
            ) from None
        os.truncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def _release_lock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def run_tool(
    argv: Sequence[str | Path],
    *,
    log_file: Path,
    environment: Mapping[str, str],
    rights: Rights = Rights.OWN,
    cwd: Path | None = None,
) -> tuple[int, str]:
    """Runs a program to its end without blocking the loop: its exit code and what it said.

    Cancelling kills it. The caller sets the deadline.
    """
    offset = log_size(log_file)
    child = spawn(argv, log_file=log_file, environment=environment, rights=rights, cwd=cwd)
    try:
        process = ProcessId.of(child.pid)
        if process is not None:
            await process.gone(None)
    finally:
        if child.poll() is None:
            kill_group(child.pid)
        code = child.wait()
    return code, log_tail(log_file, offset)


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that is free now; whoever uses it must be ready to find it taken."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def private_file(path: Path, text: str) -> None:
    """Writes a file that only we may read, whole or not at all, and on disk when this returns."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


def _now() -> float:
    return asyncio.get_running_loop().time()


def log_size(path: Path) -> int:
    """Where the next word in a log will be; for `log_tail`."""
    with open_log(path) as file:  # so that a log that is too long is put away before it is measured
        size: int = os.fstat(file.fileno()).st_size
    return size


def log_tail(path: Path, offset: int, most: int = 8000) -> str:
    """What a log got since it had `offset` bytes; the last of it."""
    with path.open("rb") as file:
        size = path.stat().st_size
        file.seek(max(offset if offset <= size else 0, size - most))  # it may have been trimmed
        return file.read().decode("utf-8", "replace")


def _reason(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL" in line or "error" in line.lower() or "cannot" in line]
    return (telling or lines or ["it said nothing"])[-1][:300]
