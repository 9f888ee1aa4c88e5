"""The active coordinator forgets what is over, in small batches, and nobody waits for it (X8)."""

from __future__ import annotations

import asyncio
import time

import msgspec
import pytest

from coordinator.cleaner import Cleaner
from coordinator.metrics import Metrics
from coordinator.settings import CoordinatorSettings
from swarm.errors import StoreDown
from swarm.ledger import LeaseLost, Ledger
from swarm.retention import Pruned, PrunePart, Retention
from swarm.stores.memory.ledger import MemoryLedger
from swarm.testing import eventually, others_run
from tests.coordinator_house import FAST, House, a_house, plan, tell

YEAR = 365 * 86_400.0


class Aged(House):
    """A house of which the database lives in a year from now, as soon as somebody says so."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        super().__init__(group)
        self.settings = msgspec.structs.replace(FAST, clean_seconds=0.05)
        self.later = 0.0
        self.database._clock = lambda: time.time() + self.later


async def test_the_cleaner_empties_the_ledger_of_what_is_old_and_stats_count_it() -> None:
    async with a_house(Aged) as house:
        await house.provision(plan("ada"), plan("bob"))
        coordinator = await house.coordinator()
        bob = await house.instance("bob")
        await house.store("ada").post([tell("bob", str(n)) for n in range(450)])
        await eventually(lambda: len(bob.handled) == 450, what="bob has handled all")
        stats = await house.command("stats")
        assert (stats["ledger"]["deliveries.handled"], stats["coordinator"]["pruned"]) == (450, 0)
        # The lease is a year old now, too: a successor's term cleans.
        house.later = YEAR
        await eventually(lambda: not house.database.deliveries, what="all is forgotten")
        await eventually(lambda: coordinator.active, what="it is active again")
        stats = await house.command("stats")
        assert stats["ledger"] == {"pruned.deliveries.handled": 450}
        assert stats["coordinator"]["pruned"] == 450
        await house.store("ada").post([tell("bob", "still here?")])
        await eventually(lambda: bob.handled[-1] == "still here?", what="routing goes on")


class Scripted(MemoryLedger):
    """Batches as the test says; what it was asked for stands in `asked`."""

    def __init__(self, batches: list[Pruned | Exception]) -> None:
        self.batches = batches
        self.asked: list[tuple[PrunePart, str]] = []

    async def prune(
        self, part: PrunePart, retention: Retention, *, after: str = "", most: int = 200
    ) -> Pruned:
        self.asked.append((part, after))
        batch = self.batches.pop(0) if self.batches else Pruned({})
        if isinstance(batch, Exception):
            raise batch
        return batch


def cleaner(ledger: Ledger, **fields: object) -> Cleaner:
    settings = CoordinatorSettings(swarm="test", clean_seconds=0.01, **fields)  # type: ignore[arg-type]
    return Cleaner(ledger, settings, Metrics())


async def test_a_round_goes_on_where_the_last_batch_ended_and_adds_up() -> None:
    ledger = Scripted([Pruned({"tasks.failed": 1}, "7"), Pruned({"tasks.failed": 2}), Pruned({"x": 1})])
    assert await cleaner(ledger).round() == {"tasks.failed": 3, "x": 1}
    assert ledger.asked == [("tasks", ""), ("tasks", "7"), ("messages", ""), ("unheard", ""), ("tally", "")]


async def test_what_is_kept_for_ever_is_not_even_looked_at() -> None:
    ledger = Scripted([])
    never = Retention(messages=0, announcements=0, notices=0, dead=0, tasks=0, memories_of={"ada": 30})
    await cleaner(ledger, retention=never).round()
    assert ledger.asked == [("memories", ""), ("tally", "")]


async def test_a_store_that_is_away_ends_the_round_and_not_the_cleaner_but_a_lost_lease_does() -> None:
    ledger = Scripted([StoreDown("away", reason="store_down"), Pruned({}), LeaseLost("gone")])
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(10):
            await cleaner(ledger).run()
    assert [part for part, _ in ledger.asked] == ["tasks", "tasks", "messages"]


async def test_it_rests_for_longer_than_it_works() -> None:
    class Slow(Scripted):
        async def prune(
            self, part: PrunePart, retention: Retention, *, after: str = "", most: int = 200
        ) -> Pruned:
            self.began.append(time.monotonic())
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                await others_run()
            return await super().prune(part, retention, after=after, most=most)

        began: list[float] = []  # noqa: RUF012

    ledger = Slow([])
    await cleaner(ledger).round()
    pauses = [later - sooner for sooner, later in zip(ledger.began, ledger.began[1:], strict=False)]
    assert len(pauses) == 3 and min(pauses) >= 0.2


def test_settings_with_impossible_ages_are_refused() -> None:
    with pytest.raises(ValueError, match="less than an hour"):
        CoordinatorSettings(swarm="test", retention=Retention(messages=0.01))
    with pytest.raises(ValueError, match="marks the gap"):
        CoordinatorSettings(swarm="test", retention=Retention(messages=30, dead=7))
