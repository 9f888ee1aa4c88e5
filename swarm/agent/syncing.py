"""The sync of an agent at the edge: what waits in its outbox goes to the swarm, in order, every so often.

The swarm is reached as this very agent, by a URL with its own login: `commit` there accepts messages and
memories in one transaction and is idempotent by their ids, so a batch whose answer was lost is sent again
and is there once. Nothing else knows how to take both, which is why the far end is Postgres and not the bus.

Only what was made here goes up; nothing comes down. So the two sides can differ in four ways, and for each
the swarm's side stands:

    the same id on both sides    the swarm keeps what it has; an id is minted once, so it is the same thing
    written there meanwhile      it comes before what was made here: order is the order of acceptance
    pruned here, or there        nobody is told; a deletion is not synced
    an address that is gone      the message is dead there and here, with its reason
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from bus.errors import Refused
from swarm.agent.breaker import Sleep
from swarm.errors import ConfigError, StoreDown, StoreError, Unknown
from swarm.records import Committed, Memory, Outgoing, Turn
from swarm.stores.sqlite.edge import EdgeStore, Entry

log = logging.getLogger(__name__)

SYNC_SECONDS: Final = 60.0
BATCH: Final = 50
DEADLINE: Final = 10.0
"""Seconds for one call to the swarm, with its tries."""
_OWN_FAULT: Final = frozenset(
    {"nul", "not_json", "bad_id", "bad_kind", "bad_length", "hops", "own_message", "id_taken"}
)
"""Why the swarm never takes an entry, whoever sends it. Anything else may pass: the entry waits."""


class Upstream(Protocol):
    """As much of `swarm.store.Store` as a sync needs."""

    async def init(self) -> None: ...

    async def commit(self, turn: Turn) -> Committed: ...

    async def close(self) -> None: ...


class Sync:
    """`connect` opens the swarm's store, anew for each sync: between two of them no connection is held. `failed` is
    called with one word for each sync that ends early: ``offline`` or ``refused``."""

    def __init__(
        self,
        store: EdgeStore,
        connect: Callable[[], Upstream],
        *,
        every: float = SYNC_SECONDS,
        batch: int = BATCH,
        sleep: Sleep = asyncio.sleep,
        failed: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._store = store
        self._connect = connect
        self._every = every
        self._batch = batch
        self._sleep = sleep
        self._failed = failed
        self._one_at_a_time = asyncio.Lock()
        self.online: bool | None = None
        """Whether the swarm was reached when it was last tried; None before."""
        self.sent = 0
        """How many entries the swarm has taken."""
        self.why = ""
        """Why the last sync ended early; empty when it ended well."""

    async def run(self) -> None:
        """For ever: sync, wait, sync. A sync that takes longer than the wait is not overtaken by the next."""
        while True:
            await self.sync()
            await self._sleep(self._every)

    async def sync(self) -> int:
        """Send what waits, and return how many entries the swarm took. One at a time: who comes while another runs
        waits for it, and then sends what is left. With nothing to send, nobody is asked. Never raises for a
        swarm that is away or refuses: `why` says so, and the entries wait."""
        async with self._one_at_a_time:
            if not await self._store.pending():
                self.why = ""
                return 0
            taken = 0
            try:
                upstream = self._connect()
                try:
                    await upstream.init()
                    self.online = True
                    while entries := await self._store.next_entries(self._batch):
                        await self._send(upstream, entries)
                        taken += len(entries)
                finally:
                    await upstream.close()
            except (StoreDown, Unknown) as error:
                self.online = False
                self._failed("offline")
                self._stopped(logging.INFO, f"The swarm is out of reach: {error}")
            except (StoreError, Refused, ConfigError) as error:
                self._failed("refused")
                self._stopped(logging.ERROR, f"The swarm does not take what was made offline: {error}")
            else:
                self.why = ""
            self.sent += taken
            if taken:
                log.info("the swarm has taken %d entries of the outbox", taken)
            return taken

    async def _send(self, upstream: Upstream, entries: Sequence[Entry]) -> None:
        """One batch, whole. A batch that is refused for what stands in it goes entry by entry."""
        try:
            committed = await upstream.commit(
                Turn(
                    delivery=None,
                    memories=tuple(entry.what for entry in entries if isinstance(entry.what, Memory)),
                    outgoing=tuple(entry.what for entry in entries if isinstance(entry.what, Outgoing)),
                )
            )
        except (StoreError, Refused) as error:
            if not _is_its_own_fault(error):
                raise
            if len(entries) > 1:
                for entry in entries:
                    await self._send(upstream, [entry])
                return
            await self._give_up(entries[0], str(error))
            return
        messages = {
            entry.what.id.lower(): entry.what for entry in entries if isinstance(entry.what, Outgoing)
        }
        dead = [
            (message, f"the swarm has nobody to give it to under {message.to!r}; the notice there says why")
            for id in committed.dead
            if (message := messages.get(id.lower())) is not None
        ]
        for message, reason in dead:
            log.warning("message %s to %s is dead: %s", message.id, message.to, reason)
        await self._store.synced(entries, dead)

    async def _give_up(self, entry: Entry, why: str) -> None:
        what = entry.what
        log.error("%s %s is never taken by the swarm: %s", type(what).__name__.lower(), what.id, why)
        await self._store.synced([entry], [(what, why)] if isinstance(what, Outgoing) else [])

    def _stopped(self, level: int, why: str) -> None:
        """Said once for each reason, not every minute."""
        if why != self.why:
            log.log(level, "%s", why)
        self.why = why


def _is_its_own_fault(error: StoreError | Refused) -> bool:
    """What Postgres calls a bad value (22) or a broken rule of a table (23) is the entry's, too."""
    return error.reason in _OWN_FAULT or (len(error.reason) == 5 and error.reason[:2] in ("22", "23"))


def upstream_of(url: str, agent: str, deadline: float | None = None) -> Callable[[], Upstream]:
    """Opens the swarm's database by the URL of the agent's own login there, `postgresql://SCHEMA.AGENT_ID:…@…`.
    `deadline` bounds one call in seconds, with its tries.
    Raises ConfigError for a URL that is none; it is not repeated, for it holds a password."""
    from urllib.parse import unquote, urlsplit

    from swarm.ids import is_uuid

    try:
        parts = urlsplit(url)
        schema, _, agent_id = unquote(parts.username or "").rpartition(".")
    except ValueError:
        parts, schema, agent_id = urlsplit(""), "", ""
    if parts.scheme not in ("postgresql", "postgres"):
        raise ConfigError(
            f"SYNC_URL begins with {parts.scheme!r}; an agent at the edge syncs with its swarm's Postgres: "
            "postgresql://SCHEMA.AGENT_ID:PASSWORD@HOST/DATABASE."
        )
    if not schema or not is_uuid(agent_id):
        raise ConfigError(
            "SYNC_URL does not log in as an agent; its user is the swarm's schema, a dot and the agent's id, as the "
            "registry of the swarm has them."
        )

    def connect() -> Upstream:
        from swarm.stores.postgres import PostgresStore

        return PostgresStore(url, schema, agent, agent_id, size=1, deadline=deadline or DEADLINE)

    return connect
