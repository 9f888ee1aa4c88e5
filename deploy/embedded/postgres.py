"""Postgres in a folder: the ledger of a swarm on one machine.

    FOLDER/data        the cluster, made once
    FOLDER/password    of the role postgres; made once, private

TCP on loopback only, no Unix socket (their paths are bounded to 107 bytes), scram passwords, data checksums.
The settings are given on the command line, so nothing in the data folder can weaken what durability needs.
A `postmaster.pid` that says ready is believed only if it names the process that we started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from deploy.embedded.binaries import PostgresPrograms, find_postgres
from deploy.embedded.rights import choose_rights, give, programs_for_nobody
from deploy.embedded.server import LOOPBACK, EmbeddedServer, ServerFailed, private_file, run_tool
from deploy.processes import ProcessId, Rights, end, processes_in

log = logging.getLogger(__name__)

ROLE = "postgres"

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}

SETTINGS = {
    "max_connections": "400",
    "shared_buffers": "128MB",  # touched as it is used
    "max_wal_size": "512MB",
    "checkpoint_timeout": "5min",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "dynamic_shared_memory_type": "mmap",  # in the data folder: a killed server leaves nothing outside it
    "jit": "off",  # our statements are short
    "max_parallel_workers_per_gather": "0",
    "tcp_keepalives_idle": "30",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Statements and row values may hold what nobody should read in a log.
    "log_min_messages": "warning",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}


class EmbeddedPostgres(EmbeddedServer):
    """A Postgres server, ≥ 15. `settings` join the defaults; those of durability are refused.

    `rights` is chosen by what the machine allows (see `deploy.embedded.rights`) unless given.
    """

    name = "postgres"
    death_signal = signal.SIGINT  # the fast stop: SIGTERM would wait for clients
    stop_steps = ((signal.SIGINT, 0.7), (signal.SIGQUIT, 0.2), (signal.SIGKILL, 0.1))

    def __init__(
        self,
        folder: Path | str,
        port: int = 0,
        *,
        settings: Mapping[str, str] | None = None,
        rights: Rights | None = None,
        outlive: bool = False,
        mark: str = "",
    ) -> None:
        super().__init__(folder, port, outlive=outlive, mark=mark)
        weakened = sorted(set(settings or {}) & set(DURABLE))
        if weakened:
            raise ServerFailed(
                f"{', '.join(weakened)} cannot be set here: accepted means on disk.", reason="bad_setting"
            )
        self._settings = SETTINGS | dict(settings or {}) | DURABLE
        self._asked_rights = rights
        self._rights = Rights.OWN
        self._password = ""

    @property
    def url(self) -> str:
        """With the password: keep it out of logs and command lines. It listens on loopback and has no TLS;
        asking for it would load OpenSSL's certificates into every agent, nearly a megabyte each."""
        password = quote(self._password, safe="")
        return f"postgresql://{ROLE}:{password}@{LOOPBACK}:{self.port}/postgres?sslmode=disable"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    # Before it runs

    async def _prepare(self, deadline: float) -> None:
        self._rights = self._asked_rights or await choose_rights(self.folder)
        major = _major_of(self.data)
        self._programs = await asyncio.to_thread(find_postgres, major)
        if self._rights is Rights.NOBODY:
            self.folder.chmod(0o711)
            self._programs = await programs_for_nobody(self._programs, self.folder)
        if major is None:
            await self._make_cluster(self._programs)
        else:
            await asyncio.to_thread(give, self.data, self._rights)
        self._read_password()
        await self._clear_stale_lock()

    async def _make_cluster(self, programs: PostgresPrograms) -> None:
        """Makes the data folder aside and moves it into place whole, so that a kill in between leaves none."""
        for half in self.folder.glob("new-*"):
            await asyncio.to_thread(shutil.rmtree, half)
        if self.data.exists():
            raise ServerFailed(
                f"{self.data} is there but is not a Postgres cluster; move it away.", reason="not_a_cluster"
            )
        aside = self.folder / f"new-{secrets.token_hex(4)}"
        aside.mkdir(mode=0o700)
        password = secrets.token_urlsafe(24)
        private_file(aside / "password", password + "\n")
        await asyncio.to_thread(give, aside, self._rights)
        command: list[str | Path] = [
            programs.initdb, "-D", aside / "data", "-U", ROLE, "--pwfile", aside / "password",
            "--auth=scram-sha-256", "--encoding=UTF8", "--data-checksums", "--no-instructions",
        ]  # fmt: skip
        best = (
            ["--locale-provider=builtin", "--locale=C.UTF-8"]
            if programs.major >= 17
            else ["--locale=C.UTF-8"]
        )
        for locale in (best, ["--locale=C"]):  # a system may know no C.UTF-8
            code, said = await run_tool(
                [*command, *locale],
                log_file=self.folder / "initdb.log",
                environment=self._environment(),
                rights=self._rights,
                cwd=aside,
            )
            if code == 0 or "locale" not in said:
                break
        if code != 0:
            await asyncio.to_thread(shutil.rmtree, aside)
            reason = (said.strip().splitlines() or ["it said nothing"])[-1]
            raise ServerFailed(
                f"initdb ended with {code}: {reason}; see {self.folder / 'initdb.log'}.", reason="initdb"
            )
        private_file(self.folder / "password", password + "\n")  # before the data: a cluster has its password
        (aside / "data").rename(self.data)
        await asyncio.to_thread(shutil.rmtree, aside)

    def _read_password(self) -> None:
        try:
            self._password = (self.folder / "password").read_text().strip()
        except FileNotFoundError:
            raise ServerFailed(
                f"{self.folder / 'password'} is missing, so nobody can log in; put it back, or delete "
                f"{self.folder} to begin anew without its data.",
                reason="no_password",
            ) from None

    async def _clear_stale_lock(self) -> None:
        """Removes a `postmaster.pid` that Postgres would believe though its pid is a zombie or another program's.

        Safe because we hold the folder's lock, and only done when no process works in the data folder.
        """
        pid = _lock_lines(self.data)[0]
        if not pid.isdigit() or not _has_pid(int(pid)) or _serves(int(pid), self.data):
            return
        if not await asyncio.to_thread(processes_in, self.data):
            log.info("postmaster.pid names process %s, which is not a Postgres that runs: removed", pid)
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    # Running

    def _command(self, port: int) -> tuple[Sequence[str | Path], Mapping[str, str], Rights, Path | None]:
        argv: list[str | Path] = [self._programs.postgres, "-D", self.data]
        listen = {"listen_addresses": LOOPBACK, "port": str(port), "unix_socket_directories": ""}
        for name, value in (self._settings | listen).items():
            argv += ["-c", f"{name}={value}"]
        return argv, self._environment(), self._rights, self.data

    def _environment(self) -> dict[str, str]:
        """Nothing of ours: PGDATA, PGPORT and the like would change what it does."""
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C",
            "TZ": "UTC",
            **self._programs.environment,
        }

    def _excuse(self, said: str) -> str:
        if "pre-existing shared memory block" in said or "is still in use" in said:
            return "processes of the last run are still ending"
        return super()._excuse(said)

    async def _ready(self, process: ProcessId, port: int) -> bool:
        lines = _lock_lines(self.data)
        if lines[0] != str(process.pid) or len(lines) < 8 or lines[7].strip() != "ready":
            return False
        return await _answers(port)

    async def _adopt(self, process: ProcessId, port: int) -> bool:
        if not _serves(process.pid, self.data) or not await self._ready(process, port):
            return False
        self._read_password()
        return True

    async def _sweep(self, seconds: float) -> None:
        """Backends notice by themselves that their postmaster died; those that do not are ended."""
        left = await asyncio.to_thread(processes_in, self.data)
        for process in left:
            steps = ((0, seconds / 2), (signal.SIGQUIT, seconds / 4), (signal.SIGKILL, seconds / 4))
            if not await end(process, steps):
                raise ServerFailed(
                    f"Process {process.pid} of the last Postgres does not end; end it.", reason="does_not_end"
                )


async def _answers(port: int) -> bool:
    """Whether a server asks the role postgres for its password, which it does only when it takes connections."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    try:
        words = f"user\0{ROLE}\0database\0postgres\0\0".encode()
        writer.write(struct.pack("!ii", 8 + len(words), 3 << 16) + words)
        async with asyncio.timeout(2.0):
            return await reader.readexactly(1) == b"R"
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _major_of(data: Path) -> int | None:
    try:
        return int((data / "PG_VERSION").read_text())
    except FileNotFoundError:
        return None


def _lock_lines(data: Path) -> list[str]:
    """The lines of postmaster.pid: pid, folder, start, port, socket, address, shared memory, status."""
    try:
        return (data / "postmaster.pid").read_text().split("\n")
    except (OSError, ValueError):
        return [""]


def _has_pid(pid: int) -> bool:
    """Whether the kernel knows the pid, be it a zombie's: what Postgres asks of one in its lock file."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _serves(pid: int, data: Path) -> bool:
    """Whether this process is a Postgres in that folder; its command line tells also who may not read its cwd."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return not Path("/proc/self").exists()  # no /proc: believe the record, which has the start time
    return words[0].endswith(b"postgres") and str(data).encode() in words
