"""Lanes: what is in flight, and where. A lane is one room of one recipient.

While a lane has work in flight it sticks to the instance that has it, whatever the balance says, so that
what follows queues up behind it and stays in order. A *suspect* (a delivery in whose hands an instance has
died before) runs alone on its instance, so that if it kills again nobody else is counted guilty.

This is bookkeeping of hints: bells may be lost, so a place is also freed when the instance's own word (its
hello, its beats) says that it does not have the delivery. The store's gate keeps the order in any case.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from swarm.records import Dispatch

FIRST_WAIT: Final = 0.05
LONGEST_WAIT: Final = 1.0
"""Seconds that a lane waits after its second, third, … handing back in a row: doubling up to the longest."""

Lane = tuple[str, str]


@dataclass(slots=True)
class Flight:
    """One delivery in an instance's hands. `dispatch` is None when only its number is known, from a hello."""

    delivery: int
    agent: str
    instance: str
    sent_at: float
    dispatch: Dispatch | None = None

    @property
    def room(self) -> str | None:
        return None if self.dispatch is None else self.dispatch.room

    @property
    def suspect(self) -> bool:
        return self.dispatch is not None and self.dispatch.crashes > 0


class Lanes:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._flights: dict[int, Flight] = {}
        self._of_instance: dict[str, dict[int, Flight]] = {}
        self._lanes: dict[Lane, Counter[str]] = {}
        self._suspects: Counter[str] = Counter()
        self._returns: dict[Lane, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._flights)

    def enter(self, flight: Flight) -> None:
        self.leave(flight.delivery)
        self._flights[flight.delivery] = flight
        self._of_instance.setdefault(flight.instance, {})[flight.delivery] = flight
        if flight.room is not None:
            self._lanes.setdefault((flight.agent, flight.room), Counter())[flight.instance] += 1
        if flight.suspect:
            self._suspects[flight.instance] += 1

    def leave(self, delivery: int) -> Flight | None:
        flight = self._flights.pop(delivery, None)
        if flight is None:
            return None
        here = self._of_instance[flight.instance]
        del here[delivery]
        if not here:
            del self._of_instance[flight.instance]
        if flight.room is not None:
            lane = self._lanes[flight.agent, flight.room]
            lane[flight.instance] -= 1
            if lane[flight.instance] <= 0:
                del lane[flight.instance]
            if not lane:
                del self._lanes[flight.agent, flight.room]
        if flight.suspect:
            self._suspects[flight.instance] -= 1
            if self._suspects[flight.instance] <= 0:
                del self._suspects[flight.instance]
        return flight

    def get(self, delivery: int) -> Flight | None:
        return self._flights.get(delivery)

    def at(self, instance: str) -> Collection[Flight]:
        return self._of_instance.get(instance, {}).values()

    def tasks(self) -> list[Flight]:
        """What may be a task, in anybody's hands."""
        return [f for f in self._flights.values() if f.dispatch is None or f.dispatch.kind == "task"]

    def load(self, instance: str) -> int:
        return len(self._of_instance.get(instance, ()))

    def has_suspect(self, instance: str) -> bool:
        return instance in self._suspects

    def instance_of(self, agent: str, room: str) -> str | None:
        """The instance to which this lane sticks now."""
        lane = self._lanes.get((agent, room))
        return next(iter(lane)) if lane else None

    def drop(self, instance: str) -> list[Flight]:
        """Everything of an instance that is gone."""
        flights = list(self.at(instance))
        for flight in flights:
            self.leave(flight.delivery)
        return flights

    # ── lanes that hand back ──────────────────────────────────────────────────────────────────────
    def handed_back(self, agent: str, room: str) -> float:
        """Count it; returns how many seconds the lane should wait (0 the first time)."""
        if len(self._returns) > 10_000:
            self._returns.clear()
        times, _ = self._returns.get((agent, room), (0, 0.0))
        wait = 0.0 if times == 0 else min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(times - 1, 10))
        self._returns[agent, room] = (times + 1, self._clock() + wait)
        return wait

    def went_well(self, agent: str, room: str) -> None:
        self._returns.pop((agent, room), None)

    def seconds_to_wait(self, agent: str, room: str) -> float:
        held = self._returns.get((agent, room))
        return 0.0 if held is None else max(0.0, held[1] - self._clock())

    def older_in_lane(self, agent: str, room: str, than: int, sent_before: float) -> Iterable[Flight]:
        """Flights of the lane with a lower number that have been out since before that moment."""
        for instance in self._lanes.get((agent, room), ()):
            for flight in self.at(instance):
                if flight.room == room and flight.delivery < than and flight.sent_at < sent_before:
                    yield flight
