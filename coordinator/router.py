"""The router: from accepted rows in the ledger to live instances. One serial loop.

Everything that changes the state of deliveries at this side happens in one loop, a pass at a time, in this
order: give back what instances lost, recover what nobody has, claim what waits, place what is held. So
nothing is claimed while it is being recovered, and what was given back is claimed again before anything
younger is placed. Handlers only leave notes (`ring`, `done`, `returned`, …) and wake the loop. Bells say
where to look, a sweep finds what bells missed, and nothing else looks into the database.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from bus.subjects import Subjects
from coordinator.directory import Directory
from coordinator.lanes import Flight
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.places import Places, is_result
from coordinator.presence import Instance, Presence
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreError, UnknownAgent
from swarm.failpoints import reached
from swarm.ledger import LeaseLost, Ledger
from swarm.records import COORDINATOR, OPERATOR, Ended

log = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.5
"""How long the loop rests after the store failed."""
BATCH_SECONDS: Final = 0.02
"""How long a few free places wait for more of them before the ledger is asked to fill them."""
GIVE_UP_WAIT: Final = 0.2
"""A lane that is handed back so often that it would wait so long (seconds) is claimed anew from its beginning."""
CLAIM_AGENTS: Final = 200
"""The most agents in one claim, so that one statement stays short."""


class Router:
    def __init__(
        self,
        ledger: Ledger,
        outbox: Outbox,
        subjects: Subjects,
        directory: Directory,
        presence: Presence,
        settings: CoordinatorSettings,
        metrics: Metrics,
    ) -> None:
        self._ledger = ledger
        self._directory = directory
        self._presence = presence
        self._settings = settings
        self._metrics = metrics
        self.places = Places(outbox, subjects, directory, presence, metrics, settings.batch)
        self.lanes = self.places.lanes
        self._settled: set[str] = set()
        self._look: set[str] = set()
        self._place: set[str] = set()
        self._recover: set[str] = set()
        self._more: set[str] = set()
        """Agents whose last claim filled all free places: there may be more."""
        self._soon: set[str] = set()
        self._astray: set[str] = set()
        """Agents of whom the ledger had more out at the last sweep than anybody here knows of."""
        self._grace_over = False
        self._wake = asyncio.Event()
        self.on_ring: list[Callable[[str], None]] = []
        """Called with whoever may have new mail: one that sleeps must wake for it."""
        self.recall = asyncio.Event()
        """Set when something in flight may have been ended: see recall.py."""

    # ── notes from handlers; none of these waits ──────────────────────────────────────────────────
    def ring(self, agents: Iterable[str]) -> None:
        """These agents may have new mail."""
        for agent in agents:
            if agent in self._directory:
                if self._grace_over and agent not in self._settled:
                    self.settle(agent)
                self._look.add(agent)
                self._wake.set()
                for rang in self.on_ring:
                    rang(agent)

    def hello(self, instance: Instance, in_flight: Iterable[int]) -> None:
        """An instance is ready for work and has this in hand."""
        self.reconcile(instance, in_flight)
        agent = instance.agent
        record = self._directory.get(agent)
        everyone = record is not None and len(self._presence.of(agent)) >= record.replicas
        if agent not in self._settled and (everyone or self._grace_over):
            self.settle(agent)
        self._look.add(agent)
        self._wake.set()

    def settle(self, agent: str) -> None:
        """All who may have this agent's deliveries in hand have said so: recover the others, then route."""
        if agent not in self._settled:
            self._settled.add(agent)
            self._recover.add(agent)
        self._look.add(agent)
        self._wake.set()

    def done(self, agent: str, instance: str, deliveries: Iterable[int]) -> None:
        """These deliveries are ended; their places are free."""
        freed = False
        for delivery in deliveries:
            flight = self.lanes.get(delivery)
            if flight is None or flight.agent != agent:
                continue
            if instance not in ("", flight.instance) and not is_result(flight.dispatch):
                continue
            self.lanes.leave(delivery)
            freed = True
            if flight.room is not None:
                self.lanes.went_well(agent, flight.room)
        if freed:
            self.places_changed(agent)

    def returned(self, agent: str, instance: str, deliveries: Iterable[int]) -> list[Flight]:
        """These came back unhandled; they are held and go out again, a little later if that happens
        repeatedly, and still as the same attempt. Returns older flights of the same lanes, which the instance
        should have handled first: probably lost on the way."""
        lost: list[Flight] = []
        for delivery in deliveries:
            flight = self.lanes.get(delivery)
            if flight is None or flight.agent != agent or instance not in ("", flight.instance):
                continue
            self.lanes.leave(delivery)
            self._metrics.returned += 1
            wait = 0.0 if flight.room is None else self.lanes.handed_back(agent, flight.room)
            if flight.dispatch is None or wait >= GIVE_UP_WAIT:
                self._give_back_lane(flight)
            else:
                self.places.hold(flight.dispatch)
            if flight.room is not None:
                if wait > 0:
                    asyncio.get_running_loop().call_later(wait, self.places_changed, agent)
                before = self._presence.clock() - self._settings.beat_seconds / 2
                lost.extend(self.lanes.older_in_lane(agent, flight.room, delivery, before))
        self.places_changed(agent)
        self._look.add(agent)
        return lost

    def lost(self, deliveries: Iterable[int]) -> None:
        """Their instance does not have them: the dispatch was lost on the wire, or the bell of its end was."""
        for delivery in deliveries:
            flight = self.lanes.leave(delivery)
            if flight is not None:
                self._give_back_lane(flight)
                self._metrics.lost_dispatches += 1
                self._look.add(flight.agent)
                self.places_changed(flight.agent)

    def gone(self, instance: Instance, *, crashed: bool) -> None:
        """The instance is no more; what it had goes to others."""
        for flight in self.lanes.drop(instance.name):
            # Of what we only know from a hello, nobody can say whether it was this agent's: never counted.
            guilty = crashed and flight.room is not None
            self._give_back_lane(flight)
            if guilty:
                self.places.given_back.discard(flight.delivery)
                self.places.crashed.add(flight.delivery)
        self._look.add(instance.agent)
        self.places_changed(instance.agent)

    def _give_back_lane(self, flight: Flight) -> None:
        """With what is held behind it. The gate would return that anyway, again and again; and held ones that fill
        the bound would keep out the very one that they wait for."""
        self.places.given_back.add(flight.delivery)
        self.places.give_back_held(flight.agent, flight.room)

    def reconcile(self, instance: Instance, in_flight: Iterable[int]) -> None:
        """An instance has said exactly what it has in hand. What we sent a moment ago may still be on its way."""
        now = self._presence.clock()
        has = set(in_flight)
        old = now - self._settings.beat_seconds / 2
        self.lost(
            [f.delivery for f in self.lanes.at(instance.name) if f.delivery not in has and f.sent_at < old]
        )
        for delivery in has:
            if self.lanes.get(delivery) is None and delivery not in self.places.given_back:
                self.lanes.enter(Flight(delivery, instance.agent, instance.name, now))
        self.places_changed(instance.agent)

    def places_changed(self, agent: str) -> None:
        self._place.add(agent)
        if agent in self._more:
            # A backlog is claimed in batches, not a row for each bell, yet no free place waits long.
            capacity = sum(instance.capacity for instance in self._presence.ready(agent))
            if self.places.free(agent) * 4 >= capacity:
                self._look.add(agent)
            elif agent not in self._soon:
                self._soon.add(agent)
                asyncio.get_running_loop().call_later(BATCH_SECONDS, self._look_at_last, agent)
        self._wake.set()

    def _look_at_last(self, agent: str) -> None:
        self._soon.discard(agent)
        self._look.add(agent)
        self._wake.set()

    def may_wait(self, agent: str) -> bool:
        """Whether mail of this agent may wait for a free place, in the ledger or here."""
        return agent in self._more or bool(self.places.held(agent))

    def stats(self) -> dict[str, int]:
        return {"in_flight": len(self.lanes), "held": len(self.places.held_by_all())}

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────
    async def run(self) -> None:
        """Route for ever. Raises LeaseLost; waits out every other failure of the store."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._pass():  # noqa: ASYNC110
                    await asyncio.sleep(0)  # let the bus's handlers in
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_failures += 1
                log.warning("Routing waits for the store: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                self._wake.set()

    async def sweep(self) -> None:
        """Every `sweep_seconds`, look for mail whose bell was lost."""
        while True:
            await asyncio.sleep(self._settings.sweep_seconds)
            try:
                waiting = await self._ledger.waiting()
                self._find_astray(await self._ledger.dispatched())
            except LeaseLost:
                raise
            except StoreError as error:
                self._metrics.store_failures += 1
                log.warning("The sweep failed: %s", error)
                continue
            self._metrics.sweeps += 1
            if any(agent not in self._directory for agent in waiting if agent not in (OPERATOR, COORDINATOR)):
                await self._refresh()
            self.ring(waiting)

    def _find_astray(self, out: Mapping[str, int]) -> None:
        """What is out and in nobody's hands, as by a claim that reached the database after we had given it up. Only
        what is so at two sweeps in a row: between, something is always being claimed or given back."""
        astray = {
            agent for agent, count in out.items() if agent in self._settled and count > self._known(agent)
        }
        if again := astray & self._astray:
            self._recover |= again
            self._wake.set()
        self._astray = astray - again

    def _known(self, agent: str) -> int:
        in_hand = sum(len(self.lanes.at(name)) for name in self._presence.of(agent))
        return in_hand + len(self.places.held(agent))

    async def settle_all(self) -> None:
        """After the grace, whoever has not said hello has nothing in hand."""
        await asyncio.sleep(self._settings.grace_seconds)
        self._grace_over = True
        for record in list(self._directory):
            if record.name not in self._settled:
                self.settle(record.name)

    def told(self, ended: Iterable[Ended]) -> None:
        """The ledger ended these and wrote notices to their senders."""
        for one in ended:
            self._metrics.ended += 1
            log.warning(
                "Message %s of %s to %s is %s: %s", one.id, one.sender, one.recipient, one.state, one.reason
            )
            self.places.drop(one.recipient, one.delivery)
            flight = self.lanes.get(one.delivery)
            if flight is not None and flight.dispatch is not None and flight.dispatch.kind == "task":
                self.recall.set()  # its place is free when its handler has stopped
            elif self.lanes.leave(one.delivery) is not None:
                self.places_changed(one.recipient)
            self.ring((one.sender,))

    async def give_up(self) -> None:
        """In good order: what is held goes back, so that the successor need not wait for it."""
        if held := self.places.held_by_all():
            await self._ledger.release(held, crashed=False)

    async def _pass(self) -> bool:
        """One round; True when there may be more to do at once."""
        await self._give_back()
        await self._recover_some()
        more = await self._claim()
        place, self._place = self._place, set()
        for agent in place:
            self.places.place(agent)
        return more or bool(self.places.crashed or self.places.given_back)

    async def _give_back(self) -> None:
        for crashed, notes in ((True, self.places.crashed), (False, self.places.given_back)):
            if not notes:
                continue
            deliveries = sorted(notes)
            # If this fails they stay noted: releasing twice is harmless, forgetting is not.
            reached("coordinator.release.before")
            ended = await self._ledger.release(deliveries, crashed=crashed)
            reached("coordinator.release.after")
            notes.difference_update(deliveries)
            self._metrics.released += len(deliveries)
            self.told(ended)

    async def _recover_some(self) -> None:
        if len(self._recover) > 1:
            # A new term asks for all agents, of which few have anything out; nobody but this loop sends anything out.
            self._recover &= set(await self._ledger.dispatched())
        while self._recover:
            agent = next(iter(self._recover))
            names = self._presence.of(agent)
            kept = [f.delivery for name in names for f in self.lanes.at(name)]
            kept += self.places.held(agent)
            try:
                released = await self._ledger.release_all_but(agent, kept)
            except UnknownAgent:
                released = 0  # it was removed since we looked
            self._recover.discard(agent)
            if released:
                self._metrics.released += released
                self._look.add(agent)
                log.info("%d deliveries to %s that nobody had in hand wait again.", released, agent)

    async def _claim(self) -> bool:
        look = [agent for agent in self._look if agent in self._settled]
        # With no free place too: results and notices need none.
        free = {
            agent: self.places.free(agent) for agent in look[:CLAIM_AGENTS] if self._presence.ready(agent)
        }
        for agent in look[:CLAIM_AGENTS]:
            self._look.discard(agent)
            if agent not in free:
                self._more.add(agent)  # nobody has looked: look when a place becomes free
        if not free:
            return len(look) > CLAIM_AGENTS
        try:
            reached("coordinator.claim.before")
            claimed = await self._ledger.claim(free)
        except LeaseLost:
            raise
        except StoreError:
            # Nobody knows what was claimed: whatever we do not hold must go back before the next claim.
            self._recover.update(free)
            self._look.update(free)
            raise
        if claimed:
            reached("coordinator.claim.after")
        counts = dict.fromkeys(free, 0)
        for dispatch in claimed:
            counts[dispatch.recipient] = counts.get(dispatch.recipient, 0) + 1
            self.places.hold(dispatch)
            self.places.given_back.discard(dispatch.delivery)  # noted while we claimed it: it is back already
            self.places.crashed.discard(dispatch.delivery)
        self._metrics.claimed += len(claimed)
        for agent, count in counts.items():
            self._place.add(agent)
            if count >= free[agent]:
                self._more.add(agent)
                if count:  # else nothing was free: whoever frees a place looks
                    self._look.add(agent)
            else:
                self._more.discard(agent)
        return bool(claimed) or len(look) > CLAIM_AGENTS

    async def _refresh(self) -> None:
        try:
            await self._directory.refresh(at_most_every=self._settings.sweep_seconds)
        except LeaseLost:
            raise
        except StoreError as error:
            log.warning("The directory could not be read: %s", error)
