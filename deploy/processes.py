"""Child processes that leave nothing behind: how they are started, named, waited for and ended.

A pid alone names nobody, since it is used again; a `ProcessId` is a pid and when it began, and is
never taken for another. A daemon that we start has its own session, so that it can be killed with all its
children; a death signal, so that it does not outlive us; and the mark of its run in its environment, so that
what escapes both is found by the next run.

A death signal fires when the *thread* that forked ends, so `spawn` insists on the main thread.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from deploy import launch

log = logging.getLogger(__name__)

MARK = "SWARM_RUN"
"""The environment variable that tells whose a process is. It must be set when the program starts."""


class Rights(StrEnum):
    """Whose rights a program runs with."""

    OWN = "own"
    NAMESPACE = "namespace"  # root's files, but not root: a user namespace that shows another uid
    NOBODY = "nobody"  # the user nobody


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process that is or was, on this machine, since it was started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The process that has this pid now; None if there is none, or only its zombie."""
        began = _started(pid)
        return cls(pid, began) if began else None

    def alive(self) -> bool:
        """Whether it runs still; a zombie does not."""
        return _started(self.pid) == self.started

    def signal(self, number: int) -> bool:
        """Sends a signal; False if the process is gone. Never reaches another process with its old pid."""
        if not hasattr(os, "pidfd_open"):
            return self.alive() and _kill(self.pid, number)
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)

    async def gone(self, timeout: float | None) -> bool:
        """Waits until it has ended, with all its threads, so that its parent can reap it; False when the
        seconds are over.

        Not the same as not `alive`: of a program whose first thread has ended before the others (as happens in
        Go) the kernel says zombie, but it cannot be reaped yet.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._wait()
                while _threads(self.pid) > 1 and _started(self.pid, zombie=True) == self.started:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)  # the handle tells of it a little early
        except TimeoutError:
            return False
        return True

    async def _wait(self) -> None:
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        except (AttributeError, OSError):  # not Linux, or a kernel without it
            while self.alive():  # noqa: ASYNC110 - there is nothing to wait on
                await asyncio.sleep(0.02)
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        try:
            if not self.alive():
                return

            def notice() -> None:
                if not ended.done():
                    ended.set_result(None)

            loop.add_reader(handle, notice)
            try:
                await ended
            finally:
                loop.remove_reader(handle)
        finally:
            os.close(handle)


def pid_alive_same(pid: int, start_time: str) -> bool:
    return ProcessId(pid, start_time).alive()


def set_death_signal(number: int, parent: int = 0) -> None:
    """Asks the kernel to signal us when the thread that forked us ends; Linux only, elsewhere nothing.

    Must come after any change of user, which clears it. With `parent`, a process whose parent has already
    died ends at once.
    """
    if sys.platform != "linux":
        return
    import ctypes

    ctypes.CDLL(None).prctl(launch.PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent and os.getppid() != parent:
        os._exit(70)


def spawn(
    argv: Sequence[str | Path],
    *,
    log_file: Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    mark: str = "",
    death_signal: int = signal.SIGKILL,
    rights: Rights = Rights.OWN,
    record: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Starts a daemon in its own session, with its output appended to `log_file` (private to us).

    `environment` is all that it gets (None: ours) besides the mark. `death_signal` 0 lets it outlive us.
    `record` gets its pid, start time and `facts` as JSON before the program begins; see `read_record`.
    The caller reaps it (`poll`) and ends it. Exit codes 126 and 127 mean that it could not begin; why is in
    the log.
    """
    if death_signal and threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a process with a death signal must be started from the main thread")
    uid, gid = nobody()
    plan = {
        "argv": [str(word) for word in argv],
        "parent": os.getpid(),
        "rights": rights.value,
        "uid": uid,
        "gid": gid,
        "signal": int(death_signal),
        "record": str(record or ""),
        "facts": dict(facts or {}),
    }
    given = dict(os.environ if environment is None else environment)
    if mark:
        given[MARK] = mark
    with open_log(log_file) as output:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", launch.__file__, json.dumps(plan)],
            cwd=cwd,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=pass_fds,
        )


def read_record(path: Path) -> tuple[ProcessId | None, dict[str, Any]]:
    """The process that a record names, if it is alive, and the record's facts (empty if there is none)."""
    try:
        facts = json.loads(path.read_text())
        process = ProcessId(int(facts.pop("pid")), str(facts.pop("started")))
    except (OSError, ValueError, KeyError, AttributeError):
        return None, {}
    return (process if process.alive() else None), facts


def kill_group(pid: int, number: int = signal.SIGKILL) -> bool:
    """Signals a process that leads its group, and every process in it; False if there is none."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


async def end(process: ProcessId, steps: Sequence[tuple[int, float]]) -> bool:
    """Asks, waits, kills: sends each signal and waits its seconds until the process has ended."""
    for number, seconds in steps:
        process.signal(number)
        if await process.gone(seconds):
            return True
    return False


def find_strays(mark: str) -> list[ProcessId]:
    """The living processes that were started with this mark, without ourselves; reads /proc, so it blocks.

    A program that writes over its environment hides from this (Postgres does).
    """
    wanted = f"{MARK}={mark}".encode()
    found = []
    for pid in _pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if pid != os.getpid() and wanted in environment.split(b"\0"):
            process = ProcessId.of(pid)
            if process is not None:
                found.append(process)
    return found


async def end_strays(mark: str, grace: float = 2.0) -> int:
    """Ends every process with this mark, politely for `grace` seconds, then not; tells how many there were."""
    ended = 0
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGKILL):  # again: what forked meanwhile
        strays = await asyncio.to_thread(find_strays, mark)
        if not strays:
            break
        ended = max(ended, len(strays))
        for stray in strays:
            stray.signal(number)
        deadline = asyncio.get_running_loop().time() + grace
        for stray in strays:
            await stray.gone(max(0.0, deadline - asyncio.get_running_loop().time()))
    return ended


def processes_in(folder: Path) -> list[ProcessId]:
    """The living processes whose working folder is `folder`; reads /proc, so it blocks."""
    wanted = str(folder.resolve())
    found = []
    for pid in _pids():
        try:
            here = os.readlink(f"/proc/{pid}/cwd")  # noqa: PTH115
        except OSError:
            continue
        if here == wanted and (process := ProcessId.of(pid)) is not None:
            found.append(process)
    return found


def open_log(path: Path, limit: int = 10_000_000) -> Any:
    """Opens a log for appending, private to us; one longer than `limit` bytes first becomes ``NAME.1``."""
    if path.exists() and path.stat().st_size > limit:
        path.replace(path.with_name(path.name + ".1"))
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    return os.fdopen(descriptor, "ab", buffering=0)


def trim_log(path: Path, limit: int = 10_000_000) -> None:
    """Bounds a log that a running program appends to: a copy becomes ``NAME.1``, the file starts anew.

    What is written between the two steps is lost; a program's log is not a ledger.
    """
    if path.exists() and path.stat().st_size > limit:
        copy = path.with_name(path.name + ".1")
        shutil.copyfile(path, copy)
        copy.chmod(0o600)
        os.truncate(path, 0)


def nobody() -> tuple[int, int]:
    """The uid and gid of the user nobody."""
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        return 65534, 65534
    return entry.pw_uid, entry.pw_gid


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []


def _kill(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _started(pid: int, zombie: bool = False) -> str:
    """When the process began; empty if there is none, or only its zombie unless that will do."""
    try:
        return "" if not zombie and _is_zombie(pid) else launch.started(pid)
    except (OSError, IndexError):
        return ""


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))  # noqa: PTH208
    except OSError:
        return 0


def _is_zombie(pid: int) -> bool:
    if sys.platform != "linux":
        answer = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, check=False)
        return answer.stdout.strip().startswith(b"Z")
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
