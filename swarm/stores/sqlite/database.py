"""One SQLite file, one connection, one thread: every call is one hop to it and one transaction there.

What is committed is on the disk (WAL, ``synchronous=FULL``). The file belongs to one process at a time and
is readable by its owner only. Errors come out as ours: `StoreError` for a file that is in use, of a newer
program, or no whole database; `StoreDown` for a disk that does not take any more.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar

from swarm.errors import StoreDown, StoreError
from swarm.records import AgentPlan
from swarm.stores.checks import check_plans, to_json
from swarm.stores.queries import load

SQL: Final = load("sqlite.sql")
LOCK_SECONDS: Final = 1.0
_APPLICATION: Final = 0x5357_524D  # "SWRM": whose file it is
T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class SqliteDatabase:
    """Opened at its first use. Open stores on it; whoever made it closes it. `clock` gives Unix seconds."""

    def __init__(self, path: str | Path, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(path)
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "swarm-sqlite")
        self._connection: sqlite3.Connection | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"SqliteDatabase({str(self.path)!r})"

    def now(self) -> int:
        return int(self._clock() * 1000)

    async def run(self, work: Work[T], *, write: bool = False) -> T:
        """`work` in the file's own thread, all of it or nothing. Raises StoreError, StoreDown."""
        if self._closed:
            raise StoreError("The store is closed; open a new one.", reason="closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work, write)

    async def provision(self, plans: Sequence[AgentPlan]) -> None:
        """Make the file know these agents and their characters, as `Ledger.provision` does."""
        check_plans(plans)
        await self.run(lambda connection: _provision(connection, plans, self.now()), write=True)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await asyncio.get_running_loop().run_in_executor(self._thread, self._disconnect)
        self._thread.shutdown(wait=False)

    def _transact(self, work: Work[T], write: bool) -> T:
        try:
            connection = self._connection or self._connect()
            connection.execute("begin immediate" if write else "begin")
            try:
                done = work(connection)
                connection.execute("commit")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("rollback")
                raise
            return done
        except sqlite3.Error as error:
            raise self._translate(error) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Before SQLite makes it: its other files take their permissions from this one.
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            self.path.chmod(0o600)
        except OSError as error:
            raise StoreError(
                f"The store's file {self.path} cannot be opened: {error.strerror}.", reason="no_file"
            ) from error
        connection = sqlite3.connect(self.path, timeout=LOCK_SECONDS, isolation_level=None)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("pragma locking_mode = exclusive")
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.execute("pragma foreign_keys = on")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("begin exclusive")  # takes the file for this process, until it is closed
        application = connection.execute("pragma application_id").fetchone()[0]
        version = connection.execute("pragma user_version").fetchone()[0]
        tables = connection.execute("pragma table_list").fetchall()
        if application != _APPLICATION and any(not row["name"].startswith("sqlite_") for row in tables):
            raise StoreError(
                f"{self.path} is another program's database; give the agent a file of its own.",
                reason="foreign_file",
            )
        scripts = sorted(
            (entry for entry in (files("swarm") / "sql" / "sqlite").iterdir() if entry.name.endswith(".sql")),
            key=lambda entry: entry.name,
        )
        if version > len(scripts):
            raise StoreError(
                f"{self.path} is at migration {version}, which this program does not know; run the newer program.",
                reason="newer_schema",
            )
        connection.execute("commit")
        for number, script in enumerate(scripts[version:], version + 1):
            connection.executescript(
                f"begin exclusive; {script.read_text('utf-8')}; pragma user_version = {number};"
                f" pragma application_id = {_APPLICATION}; commit;"
            )

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _translate(self, error: sqlite3.Error) -> StoreError:
        name = getattr(error, "sqlite_errorname", "") or ""
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return StoreError(
                f"The store's file {self.path} is in use by another process; an agent alone has a file of its own.",
                reason="locked",
            )
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return StoreError(
                f"The store's file {self.path} is no whole database ({error}); move it away and restore a copy, "
                "or begin with a new one.",
                reason="corrupt",
            )
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY")):
            return StoreDown(
                f"The disk does not take the store's file {self.path} ({error}); make room or mend it, then try again.",
                reason="store_down",
            )
        return StoreError(f"The store's file {self.path} refused: {error}.", reason="store_error")


def _provision(connection: sqlite3.Connection, plans: Sequence[AgentPlan], now: int) -> None:
    for plan in plans:
        rights = plan.permissions
        connection.execute(
            SQL["plan_agent"],
            {
                "id": plan.id.lower(),
                "name": plan.name,
                "version": plan.version,
                "source": plan.source,
                "create_children": rights.create_children,
                "control_children": rights.control_children,
                "access_parent_memory": rights.access_parent_memory,
                "announce": rights.announce,
                "roles": to_json("The roles", plan.roles),
                "replicas": plan.replicas,
                "balance": plan.balance,
                "now": now,
            },
        )
        document = to_json("The character", plan.character)
        current = connection.execute(SQL["current_character"], {"id": plan.id.lower()}).fetchone()
        if current is None or tuple(current) != (plan.version, document):
            connection.execute(
                SQL["store_character"],
                {"id": plan.id.lower(), "version": plan.version, "document": document},
            )
    for plan in plans:
        connection.execute(SQL["plan_parent"], {"id": plan.id.lower(), "parent": plan.parent})
