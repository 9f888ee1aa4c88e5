"""Asks: from an address to a live instance, and an end for every asker.

Only the envelope is decoded here, never the body, and nothing is stored. The instance answers straight to the
asker: a reply address is honoured only if it lies in the asker's own inbox, else somebody could make an
instance speak to a third party with its own rights. Recent asks are remembered by instance until their
deadline, so that when an instance dies its open askers hear so at once instead of waiting.

How an ask ends when it is not answered:

    Refused       forged_sender, hops, conversation, self, many, no_parent, unknown_agent (with near names)
    NobodyThere   absent: a known agent without a live instance; tell it instead, or start it
    TooLate       the deadline has passed before it was routed
    Failed        crashed: the instance died with the ask in hand
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from bus.bus import Bus, Incoming
from bus.envelope import Envelope
from bus.errors import BusError, Failed, NobodyThere, Refused, TooLate
from bus.subjects import Subjects, is_inbox_of
from coordinator.directory import Directory
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.presence import Instance
from coordinator.router import Router
from coordinator.storms import Storms

log = logging.getLogger(__name__)

REMEMBERED: Final = 4096
"""Open asks remembered for each instance; beyond, the oldest are forgotten (they still have their deadline)."""


@dataclass(frozen=True, slots=True)
class OpenAsk:
    until: float
    """Unix seconds."""
    fail: Callable[[BusError], None]


class Asks:
    def __init__(
        self,
        outbox: Outbox,
        subjects: Subjects,
        directory: Directory,
        router: Router,
        storms: Storms,
        metrics: Metrics,
        ask_seconds: float,
    ) -> None:
        self._outbox = outbox
        self._subjects = subjects
        self._directory = directory
        self._router = router
        self._storms = storms
        self._metrics = metrics
        self._ask_seconds = ask_seconds
        self._open: dict[str, deque[OpenAsk]] = {}
        self._turns = 0
        self._asked_at: dict[str, float] = {}

    def reply_of(self, owner: str, incoming: Incoming) -> str | None:
        """The address at which `owner` may be answered; None (counted) when it gave none or a foreign one."""
        if incoming.reply is not None and is_inbox_of(owner, incoming.reply):
            return incoming.reply
        if incoming.reply is not None:
            self._metrics.foreign_replies += 1
            log.warning("%s asked for an answer at an address that is not its own; dropped.", owner)
        return None

    def route(self, owner: str, incoming: Incoming, sender: str) -> None:
        """Send an ask on its way, or its error back. `owner` is the token that the server authorised and
        whose inbox the reply goes to, `sender` the name under which the recipient knows it."""
        reply = self.reply_of(owner, incoming)
        if reply is None:
            self._metrics.asks_refused += 1
            return
        ask = incoming.envelope
        try:
            instance, forwarded = self._resolve(ask, sender)
        except BusError as error:
            self._metrics.asks_refused += 1
            self._outbox.fail(ask, reply, error)
            return
        self._outbox.send(self._subjects.down(instance.agent, instance.name), forwarded, reply)
        self._metrics.asks_routed += 1
        self._remember(instance, ask, lambda error: self._outbox.fail(ask, reply, error))

    async def ask(self, bus: Bus, ask: Envelope, timeout: float) -> Envelope:
        """Ask on an operator's behalf and wait for the reply. Raises what `route` would have answered."""
        instance, forwarded = self._resolve(ask, ask.sender)
        broken: list[BusError] = []

        async def request() -> Envelope | None:
            try:
                return await bus.request(
                    self._subjects.down(instance.agent, instance.name), forwarded, timeout=timeout
                )
            except BusError as error:
                broken.append(error)
                return None

        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(request())

            def fail(error: BusError) -> None:
                broken.append(error)
                waiting.cancel()

            remembered = self._remember(instance, ask, fail)
        with contextlib.suppress(KeyError, ValueError):
            self._open[instance.name].remove(remembered)
        self._metrics.asks_routed += 1
        reply = None if waiting.cancelled() else waiting.result()
        if reply is None:
            raise broken[0]
        return reply

    def _resolve(self, ask: Envelope, sender: str) -> tuple[Instance, Envelope]:
        if ask.kind != "ask":
            raise Refused(f"What comes in as an ask must be of kind ask, not {ask.kind}.", reason="bad_kind")
        self._storms.check_ask(ask, sender)
        left = ask.seconds_left()
        if left is not None and left <= 0:
            raise TooLate("The deadline of this ask has passed before it could be routed.")
        names = self._directory.whom_to_ask(sender, ask.to)
        instance = self._one_of(names, ask.room)
        if instance is None:
            who = ask.to if len(names) > 1 else names[0]
            record = self._directory.get(names[0])
            if record is not None and record.desired == "running" and not record.replicas:
                raise NobodyThere(
                    f"{who} is scaled to 0; tell it instead, and it will get the message later, or have one again: "
                    f"swarm scale {names[0]} 1.",
                    reason="absent",
                )
            raise NobodyThere(
                f"{who} is known but no instance of it is ready; tell it instead, and it will "
                f"get the message later, or start it: swarm start {names[0]}.",
                reason="absent",
            )
        changes: dict[str, Any] = {}
        if ask.to != instance.agent:
            changes["to"] = instance.agent
        if ask.sender != sender:
            changes["sender"] = sender
        if ask.delivery is not None or ask.attempt:  # the coordinator's alone to say
            changes |= {"delivery": None, "attempt": 0}
        return instance, msgspec.structs.replace(ask, **changes) if changes else ask

    def _one_of(self, names: tuple[str, ...], room: str) -> Instance | None:
        """An instance of one of these agents; of several, each in turn."""
        if len(names) > 1:
            self._turns += 1
            start = self._turns % len(names)
            names = names[start:] + names[:start]
        for name in names:
            instance = self._router.places.pick(name, room)
            if instance is not None:
                return instance
        return None

    def _remember(self, instance: Instance, ask: Envelope, fail: Callable[[BusError], None]) -> OpenAsk:
        now = time.time()
        bound = now + self._ask_seconds
        until = bound if ask.deadline is None else min(ask.deadline / 1000, now + 3600)
        asks = self._open.setdefault(instance.name, deque(maxlen=REMEMBERED))
        while asks and asks[0].until < now:
            asks.popleft()
        self._asked_at[instance.agent] = time.monotonic()
        remembered = OpenAsk(until, fail)
        asks.append(remembered)
        return remembered

    def asked_at(self, agent: str) -> float:
        """When it was last asked, on the monotonic clock."""
        return self._asked_at.get(agent, float("-inf"))

    def gone(self, instance: Instance, *, crashed: bool) -> None:
        """Tell whoever may still wait for this instance. Those who were answered drop this unread."""
        now = time.time()
        how = "died" if crashed else "ended"
        error = Failed(
            f"The instance of {instance.agent} that had this ask {how} before it answered; ask again.",
            reason="crashed" if crashed else "ended",
        )
        for ask in self._open.pop(instance.name, ()):
            if ask.until > now:
                self._metrics.asks_failed += 1
                ask.fail(error)
