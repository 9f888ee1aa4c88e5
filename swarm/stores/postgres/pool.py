"""Connections to Postgres: opened when needed, few, given back at once, closed when idle.

One statement is one transaction is one round trip; `reset` is a no-op for that reason (no session state is
ever left behind). What fails on the way is tried again until a deadline: every write of ours is idempotent
by its ids, so trying again is safe. But a claim is answered with what it has claimed, which a second one no longer
finds: it is tried once (`write_once`). What the server refuses is translated into our errors at once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import asyncpg
from asyncpg import exceptions as pg
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, wait_random_exponential

from bus.errors import Refused
from swarm.errors import (
    IllegalTransition,
    InboxFull,
    NoAuthority,
    StoreDown,
    StoreError,
    SwarmError,
    Unknown,
    UnknownAgent,
    UnknownChild,
    unknown_task,
)
from swarm.ledger import LeaseLost
from swarm.stores.postgres.names import identifier

log = logging.getLogger(__name__)

Rows = list[Any]  # asyncpg.Record, which is untyped

TRY_SECONDS: Final = 5.0
"""For one try: a connection, if needed, and the statement."""
_PASSING_STATES: Final = ("08", "53", "57P", "57014", "40", "25006", "55P03")
"""Classes of SQLSTATE that pass by themselves: connection, resources, shutdown, deadlock, read-only, lock."""


class Connections:
    """A pool for one role. Raises StoreDown, Unknown, StoreError and the errors of `translate`.

    `url` holds the password and is never shown. `size` bounds the connections; `deadline` (seconds)
    bounds everything that one call does, with all its tries.
    """

    def __init__(self, url: str, schema: str, *, size: int, name: str, deadline: float = 10.0) -> None:
        self._url = url
        self.schema = schema
        self._size = size
        self._name = name
        self._deadline = deadline
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"Connections({self._name!r}, schema={self.schema!r}, open={self.open})"

    @property
    def open(self) -> int:
        """How many connections are open now."""
        return self._pool.get_size() if self._pool else 0

    async def read(self, statement: str, *arguments: Any) -> Rows:
        return await self._run(statement, arguments, None, self._deadline)

    async def write(self, statement: str, *arguments: Any, id: str) -> Rows:
        """`id` names the write for the caller when its outcome stays unknown."""
        return await self._run(statement, arguments, id, self._deadline)

    async def write_once(self, statement: str, *arguments: Any, id: str) -> Rows:
        """As `write`, for what a second try would not answer as the first: tried once. Raises Unknown when it may
        have been done."""
        try:
            return await self._try(statement, arguments, self._deadline)
        except _Failed as failed:
            if not failed.passing:
                raise translate(failed.error) from failed.error
            if failed.sent:
                raise Unknown(id) from failed.error
            raise _down(failed.error) from failed.error

    async def ping(self, statement: str) -> None:
        await self._run(statement, (), None, min(3.0, self._deadline))

    async def close(self, seconds: float = 5.0) -> None:
        """Bounded: what is not given back in time is cut."""
        self._closed = True
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    async def _run(self, statement: str, arguments: tuple[Any, ...], id: str | None, deadline: float) -> Rows:
        try:
            return await self._try(statement, arguments, min(TRY_SECONDS, deadline))
        except _Failed as failed:
            if not failed.passing:
                raise translate(failed.error) from failed.error
            tries = _Tries(failed.sent)
            log.info("%s: trying again after %s", self._name, type(failed.error).__name__)
        try:
            async with asyncio.timeout(deadline):
                return await self._try_again(statement, arguments, tries, deadline)
        except (TimeoutError, _Failed) as error:
            cause = error.error if isinstance(error, _Failed) else error
            if isinstance(error, _Failed) and not error.passing:
                raise translate(cause) from cause
            if id is not None and tries.sent:
                raise Unknown(id) from cause
            raise _down(cause) from cause

    async def _try_again(
        self, statement: str, arguments: tuple[Any, ...], tries: _Tries, deadline: float
    ) -> Rows:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.passing),
            stop=stop_after_delay(deadline),
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        ):
            with attempt:
                try:
                    return await self._try(statement, arguments, min(TRY_SECONDS, deadline))
                except _Failed as failed:
                    tries.sent = tries.sent or failed.sent
                    raise
        raise AssertionError("unreachable: tenacity returns or raises")

    async def _try(self, statement: str, arguments: tuple[Any, ...], seconds: float) -> Rows:
        if self._closed:
            raise StoreError("The store is closed; open a new one.", reason="closed")
        sent = False
        try:
            async with asyncio.timeout(seconds):
                pool = self._pool or await self._open()
                connection = await pool.acquire()
                try:
                    sent = True
                    rows: Rows = await connection.fetch(statement, *arguments)
                except BaseException as error:
                    # A broken connection, or one with a statement still running in it, is not given back.
                    if not isinstance(error, pg.PostgresError) or _passing(error):
                        connection.terminate()
                    raise
                finally:
                    await pool.release(connection, timeout=2.0)
                return rows
        except (OSError, TimeoutError, pg.PostgresError, pg.InterfaceError, pg.InternalClientError) as error:
            passing = _passing(error)
            if passing and self._pool is not None:
                await self._pool.expire_connections()  # the others are of the same server: likely dead too
            raise _Failed(error, passing, sent) from error

    async def _open(self) -> asyncpg.Pool[Any]:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size,
                    max_inactive_connection_lifetime=30.0,
                    command_timeout=30.0,
                    timeout=TRY_SECONDS,
                    reset=_no_reset,
                    server_settings=session_settings(self.schema, self._name),
                )
            return self._pool


def session_settings(schema: str, name: str) -> dict[str, str]:
    return {
        "search_path": f"{identifier(schema)}, pg_temp",
        "application_name": name[:63],
        "jit": "off",
        # Our statements are few, of one shape and all served by an index. Planning them anew each time took a
        # third of a `post`; and a plan that was kept since the tables were small must not scan the large ones.
        "plan_cache_mode": "force_generic_plan",
        "enable_seqscan": "off",
        "enable_hashjoin": "off",
        "enable_mergejoin": "off",
        "statement_timeout": "30s",
        "idle_in_transaction_session_timeout": "30s",
    }


async def _no_reset(connection: Any) -> None:
    """Saves a round trip; see the module."""


class _Tries:
    """Whether any try got so far that the server may have committed it."""

    def __init__(self, sent: bool) -> None:
        self.sent = sent


class _Failed(Exception):
    """A try that did not work. `sent`: the server may have got it, and may have committed it."""

    def __init__(self, error: BaseException, passing: bool, sent: bool) -> None:
        super().__init__(str(error))
        self.error = error
        self.passing = passing
        # What the server answered with an error is not committed, whatever the error.
        answered = isinstance(error, pg.PostgresError) and not _cut(error)
        self.sent = sent and not answered


def _state(error: BaseException) -> str:
    return str(getattr(error, "sqlstate", None) or "")


def _cut(error: pg.PostgresError) -> bool:
    """The connection ended under the statement, so that a commit may have gone before it."""
    return _state(error)[:2] == "08" or _state(error)[:3] == "57P"


def _passing(error: BaseException) -> bool:
    if isinstance(error, pg.PostgresError):
        return _state(error).startswith(_PASSING_STATES)
    if isinstance(error, pg.InterfaceError):
        return not isinstance(error, ValueError)  # arguments of a wrong type stay wrong
    return isinstance(error, (OSError, TimeoutError, pg.InternalClientError))


def _down(cause: BaseException) -> StoreDown:
    return StoreDown(
        f"The database does not answer ({type(cause).__name__}); check that it runs, then try again.",
        reason="store_down",
    )


def translate(error: BaseException) -> Exception:
    """An error of asyncpg as one of ours. SW… are raised by our SQL: see 0004_accept.sql."""
    if isinstance(error, (SwarmError, Refused)):
        return error
    text = getattr(error, "message", None) or str(error)
    match _state(error):
        case "SW001":
            return LeaseLost(
                f"{text}: another coordinator may have it; stop and stand by.", reason="lease_lost"
            )
        case "SW002":
            return UnknownAgent(text)
        case "SW003":
            return NoAuthority(text)
        case "SW004":
            return StoreError(f"{text}.", reason="id_taken")
        case "SW005":
            return Refused(
                f"{text} would write to itself; an agent never gets its own message.", reason="own_message"
            )
        case "SW006":
            return StoreError(
                f"{text}; the ledger has it under another recipient or not at all.", reason="not_yours"
            )
        case "SW007":
            return StoreError(f"{text}.", reason="bad_kind")
        case "SW008":
            return unknown_task(text)
        case "SW009":
            return Refused(f"{text}.", reason="task_state")
        case "SW010":
            return IllegalTransition(f"{text}.", reason="illegal_transition")
        case "SW020":
            return Refused(f"{text}.", reason="hierarchy")
        case "SW021":
            return UnknownChild(text.removeprefix("Child agent ").removesuffix(" not found"))
        case "SW030":
            return InboxFull(text, str(getattr(error, "detail", "") or ""))
        case "SW031":
            return Refused(f"{text}.", reason="dead_letter")
        case "28P01" | "28000":
            return StoreError(
                "The database refuses this login; provision the agents again.", reason="login_refused"
            )
        case "3D000":
            return StoreError(f"{text}; create it, or correct the URL.", reason="no_database")
        case "3F000" | "42P01" | "42883":
            return StoreError(
                "The swarm's schema is not there; start the swarm once to make it.", reason="no_schema"
            )
        case "42501":
            return StoreError(f"The database refuses it: {text}.", reason="not_allowed")
    return StoreError(f"The database refused: {text}.", reason=_state(error) or "store_error")
