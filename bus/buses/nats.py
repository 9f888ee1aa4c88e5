"""The bus on NATS: one connection, which comes back by itself until its credentials end.

No JetStream and no headers. While the server cannot be reached, publishes are dropped and counted (nothing
is buffered: what is sent later than its sender thinks is worse than what is lost, and only the ledger
promises), and asks wait for the connection as long as their own deadline allows.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from nats.errors import Error as NatsError

from bus.asks import Asks
from bus.bus import Handler
from bus.buses.nats_client import LeanClient
from bus.credentials import Credentials
from bus.door import Door, count, new_counters
from bus.envelope import Envelope, encode
from bus.errors import BadMessage, Disconnected, Refused, TooLate
from bus.jwt import Key
from bus.link import Link, StateCallback
from bus.patterns import check_pattern, check_subject
from bus.subjects import inbox

log = logging.getLogger(__name__)

FIRST_WAIT: Final = 0.1
LONGEST_WAIT: Final = 2.0
"""Seconds between attempts to reconnect: doubling from the first to the longest, with jitter."""
PING_SECONDS: Final = 5
"""A server that is silent for three of these is given up."""
REFUSALS: Final = 5
"""Refused credentials in a row after which a lost connection is given up: they have expired or were revoked."""
_VIOLATION: Final = re.compile(r'for (publish|subscription) to "([^"]*)"', re.IGNORECASE)


async def connect(
    urls: str | Sequence[str],
    who: Credentials | str,
    *,
    deadline: float = 10.0,
    on_state: StateCallback | None = None,
    tls: ssl.SSLContext | None = None,
) -> NatsBus:
    """Connect as `who`, trying again for `deadline` seconds while no server answers.

    `who` may be a bare name where the server knows its clients in another way (a user in the URL).
    `on_state` is called with False when the connection is lost and True when it is back.
    Raises Refused when the server does not accept the credentials, Disconnected at the deadline.
    """
    servers = [urls] if isinstance(urls, str) else list(urls)
    give_up = time.monotonic() + deadline
    wait = FIRST_WAIT
    while True:
        bus = NatsBus(who, servers, on_state)
        try:
            async with asyncio.timeout(max(0.05, give_up - time.monotonic())):
                await bus._open(tls)
            return bus
        except (OSError, NatsError) as error:  # TimeoutError is an OSError
            await bus._client.abandon()
            if "authorization violation" in str(error).lower():
                raise Refused(
                    f"The bus at {_shown(servers)} refused the credentials of {bus.name}; "
                    "they may have expired or belong to another swarm.",
                    reason="bad_credentials",
                ) from None
            left = give_up - time.monotonic()
            if left <= 0:
                raise Disconnected(
                    f"No bus could be reached at {_shown(servers)} within {deadline:g} s "
                    f"({error or type(error).__name__}); is it running?",
                    reason="unreachable",
                ) from error
            await asyncio.sleep(min(left, wait * random.uniform(0.5, 1)))  # noqa: S311
            wait = min(LONGEST_WAIT, wait * 2)
        except BaseException:
            await bus._client.abandon()
            raise


class NatsBus:
    """One connection under one name; made by `connect`. See `bus.bus.Bus` for what its methods promise."""

    def __init__(self, who: Credentials | str, servers: list[str], on_state: StateCallback | None) -> None:
        self.name = who if isinstance(who, str) else who.name
        self.counters = new_counters()
        self._credentials = None if isinstance(who, str) else who
        self._servers = servers
        self._client = LeanClient(self._violation)
        self._asks = Asks(self.name, self.counters)
        self._link = Link(self.name, on_state)
        self._closing = False
        self._first = True
        self._attempts = 0
        self._refusals = 0
        self._lost_at = 0.0
        self._refused_patterns: set[str] = set()

    # what the contract says

    @property
    def connected(self) -> bool:
        return self._link.up and self._client.is_connected

    async def publish(self, subject: str, envelope: Envelope, *, reply: str | None = None) -> None:
        data = self._encoded(envelope)
        check_subject(subject)
        if reply:
            check_subject(reply)
        self._link.require_open()
        if not self._client.send(subject, reply or "", data):
            count(
                self.counters, "dropped", "%s is not connected; dropped a message to %s", self.name, subject
            )
        elif self._client.congested:
            with contextlib.suppress(OSError):  # the reader will see it too, and reconnect
                await self._client.unclog()

    async def request(
        self,
        subject: str,
        envelope: Envelope,
        *,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope:
        data = self._encoded(envelope)
        check_subject(subject)
        self._link.require_open()
        if timeout <= 0:
            raise TooLate(f"There was no time left to ask {subject}.")
        if not self.connected:
            timeout = await self._wait_connected(timeout)
        if self._client.congested:
            started = time.monotonic()
            with contextlib.suppress(OSError):
                async with asyncio.timeout(timeout):
                    await self._client.unclog()
            timeout -= time.monotonic() - started
        send = self._client.send
        return await self._asks.run(subject, timeout, on_chunk, lambda reply: send(subject, reply, data))

    async def subscribe(self, subject: str, handler: Handler) -> NatsSubscription:
        """Raises Refused, too, when this name has no right to `subject`."""
        check_pattern(subject)
        self._link.require_open()
        door = Door(self.name, handler, self.counters, self._answer)

        def receive(on: str, reply: str, data: bytes, _status: str) -> None:
            door.enter(on, data, reply or None)

        sid = await self._client.listen(subject, receive)
        subscription = NatsSubscription(self, door, sid)
        try:
            await self._server_knows()
            if subject in self._refused_patterns:
                self._refused_patterns.discard(subject)
                raise Refused(f"{self.name} may not listen on {subject}.", reason="permission")
        except BaseException:
            await subscription.stop()
            raise
        return subscription

    async def drain(self, timeout: float) -> None:
        if self._link.ended.is_set():
            return
        self._closing = True
        with contextlib.suppress(TimeoutError, NatsError, OSError):
            async with asyncio.timeout(timeout):
                if self._client.is_connected:
                    # Whatever the server had sent before it saw these has been handed out at the PONG.
                    for sid in list(self._client._subs):
                        await self._client._send_unsubscribe(sid)
                    self._client.write_out()
                    await self._client.flush()
        await self.close()

    async def close(self) -> None:
        if self._link.ended.is_set():
            return
        self._closing = True
        self._client.write_out()
        try:
            async with asyncio.timeout(2):
                await self._client.close()
        except (TimeoutError, OSError):
            await self._client.abandon()
        finally:
            self._end()

    async def wait_closed(self) -> None:
        await self._link.ended.wait()

    # connecting

    async def _open(self, tls: ssl.SSLContext | None) -> None:
        options: dict[str, Any] = {} if tls is None else {"tls": tls}
        if self._credentials is not None:
            credentials = self._credentials
            key = Key(credentials.seed)
            options["user_jwt_cb"] = lambda: credentials.jwt.encode()
            options["signature_cb"] = lambda nonce: base64.b64encode(key.sign(nonce.encode()))
        await self._client.connect(
            self._servers,
            name=self.name,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            reconnect_to_server_handler=self._next_server,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0,
            connect_timeout=2,
            ping_interval=PING_SECONDS,
            max_outstanding_pings=2,
            pending_size=0,
            inbox_prefix=inbox(self.name),
            **options,
        )
        self._first = False
        start = len(self._asks.prefix)

        def answered(subject: str, _reply: str, data: bytes, status: str) -> None:
            token = subject[start:]
            if status == "503":
                self._asks.nobody(token)
            else:
                self._asks.answered(token, data)

        await self._client.listen(self._asks.pattern, answered)
        await self._client.flush(2)
        self._link.begin()

    def _next_server(self, servers: list[Any], _info: dict[str, Any]) -> tuple[Any, float]:
        """Which server to try next, and after how many seconds (called by nats-py)."""
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(self._attempts, 10))
        chosen = servers[self._attempts % len(servers)]
        self._attempts += 1
        return chosen, wait * random.uniform(0.5, 1)  # noqa: S311

    # what nats-py tells us: none of these may raise once connected, it would stop the reconnecting

    async def _on_error(self, error: Exception) -> None:
        if self._first:
            raise error  # ends this attempt of `connect`
        if "authorization violation" in str(error).lower():
            self._refusals += 1
            expires = None if self._credentials is None else self._credentials.expires
            expired = expires is not None and expires < time.time()
            if expired or self._refusals >= REFUSALS:
                log.error("The bus no longer accepts the credentials of %s; giving up.", self.name)
                self._client.forget_servers()
        else:
            log.debug("%s: %s: %s", self.name, type(error).__name__, error)

    async def _on_disconnected(self) -> None:
        self._client.fail_flushes()
        self._attempts = 0
        self._refusals = 0
        if self._closing or not self._link.up:
            return
        self._lost_at = time.monotonic()
        why = self._client.last_error
        log.warning("%s lost the bus at %s%s.", self.name, _shown(self._servers), f" ({why})" if why else "")
        self._link.lose()

    async def _on_reconnected(self) -> None:
        self.counters["reconnects"] += 1
        log.info("%s is back on the bus after %.1f s.", self.name, time.monotonic() - self._lost_at)
        self._link.regain()

    async def _on_closed(self) -> None:
        if not self._closing and not self._first:
            log.error("%s is off the bus for good: %s.", self.name, self._client.last_error or "closed")
        self._client.fail_flushes()
        self._end()

    def _violation(self, text: str) -> None:
        count(self.counters, "violations", "The bus refused %s: %s", self.name, text)
        found = _VIOLATION.search(text)
        if found is None:
            return
        if found[1].lower() == "publish":
            refusal = Refused(f"{self.name} may not publish on {found[2]}.", reason="permission")
            self._asks.refused(found[2], refusal)
        else:
            self._refused_patterns.add(found[2])

    def _end(self) -> None:
        self._link.end()
        self._asks.end(self._link.gone())

    # the rest

    def _encoded(self, envelope: Envelope) -> bytes:
        data = encode(envelope)
        if len(data) > self._client.max_payload:
            raise BadMessage(
                f"This message has {len(data):,} bytes and the bus takes at most {self._client.max_payload:,}; "
                "raise max_payload of the NATS server to 2 MiB.",
                reason="too_large",
            )
        return data

    def _answer(self, reply: str, envelope: Envelope) -> None:
        self._client.send(check_subject(reply), "", encode(envelope))

    async def _wait_connected(self, timeout: float | None = None) -> float:
        """As `Link.wait_up`, also for the moment in which nats-py knows of a loss and we do not."""
        if self._link.up and not self._client.is_connected:
            await self._on_disconnected()
        return await self._link.wait_up(timeout)

    async def _server_knows(self) -> None:
        """Until the server has worked through all that was sent; a reconnection sends subscriptions again."""
        while True:
            self._link.require_open()
            if not self.connected:
                await self._wait_connected()
            try:
                await self._client.flush(2)
                return
            except (NatsError, OSError):
                continue


class NatsSubscription:
    def __init__(self, bus: NatsBus, door: Door, sid: int) -> None:
        self._bus = bus
        self._door = door
        self._sid = sid

    async def stop(self) -> None:
        """No further calls of the handler once this returns. Stopping twice is fine."""
        self._door.closed = True
        with contextlib.suppress(NatsError, OSError):
            await self._bus._client.unlisten(self._sid)


def _shown(servers: Sequence[str]) -> str:
    """URLs without what may be secret in them."""
    return ", ".join(re.sub(r"//[^/@]*@", "//", server) for server in servers)
