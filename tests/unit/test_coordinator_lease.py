"""One coordinator is active; one that was paused past its lease writes nothing and stands by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bus.errors import Disconnected
from coordinator.lease import Lease
from coordinator.metrics import Metrics
from coordinator.presence import Presence
from coordinator.service import Coordinator
from coordinator.settings import CoordinatorSettings, load_settings
from swarm.errors import ConfigError
from swarm.ledger import LeaseLost
from swarm.protocol import Beat, Hello
from swarm.testing import eventually
from tests.coordinator_house import FAST, House, a_house, plan, tell


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        await house.provision(plan("reader"))
        yield house


async def test_the_second_coordinator_stands_by_and_takes_over(house: House) -> None:
    first = await house.coordinator()
    second = await house.coordinator(wait=False)
    assert first.active
    await house.kill(first)
    await eventually(lambda: second.active, seconds=FAST.lease_seconds + FAST.standby_seconds + 1)
    reader = await house.instance("reader")
    await house.command("tell", agent="reader", text="hello")
    await eventually(lambda: reader.handled == ["hello"])


def test_by_its_defaults_a_takeover_routes_within_five_seconds() -> None:
    settings = CoordinatorSettings(swarm="s")
    assert settings.lease_seconds + settings.standby_seconds + settings.grace_seconds < 5
    assert settings.renew_seconds * 2 < settings.lease_seconds


async def test_a_coordinator_that_lost_its_lease_writes_nothing_and_stands_by(house: House) -> None:
    paused = await house.coordinator()
    reader = await house.instance("reader", hands_on="hold")
    ledger = paused._ledger
    # Paused past its lease: another took it meanwhile, and only the database knows.
    house.database.lease_until = 0
    usurper = house.ledger()
    assert await usurper.take_lease("usurper", 60) == 2
    for write in (
        ledger.claim({"reader": 1}),
        ledger.release([1], crashed=True),
        ledger.end_overdue(),
        ledger.accept("operator", [tell("reader", "x")]),
    ):
        with pytest.raises(LeaseLost):
            await write
    await eventually(lambda: not paused.active and paused.metrics.leases_lost == 1)
    assert (await usurper.waiting(), reader.seen) == ({}, [])
    await usurper.release_lease("usurper")
    await eventually(lambda: paused.active)
    assert paused.term is not None and paused.term.epoch == 3


async def test_while_the_store_is_away_the_lease_is_given_up_by_the_own_clock(house: House) -> None:
    coordinator = await house.coordinator()
    house.database.down = True
    await eventually(lambda: not coordinator.active)
    house.database.down = False
    await eventually(lambda: coordinator.active)


async def test_without_the_bus_nobody_takes_the_lease(house: House) -> None:
    house.broker.cut("coordinator")
    coordinator = await house.coordinator(wait=False)
    house.broker.cut("coordinator")
    other = house.ledger()
    await asyncio.sleep(FAST.standby_seconds * 3)
    assert await other.take_lease("other", 0.1) == 1 and not coordinator.active
    house.broker.heal("coordinator")
    await eventually(lambda: coordinator.active)


async def test_the_end_of_the_bus_ends_the_process(house: House) -> None:
    bus = house.broker.connect("coordinator")
    coordinator = Coordinator(bus, house.ledger(), FAST)

    async def end_the_bus() -> None:
        await eventually(lambda: coordinator.active)
        await bus.close()

    with pytest.raises(ExceptionGroup) as ended:
        async with asyncio.TaskGroup() as group:
            group.create_task(end_the_bus())
            await coordinator.run()
    assert ended.value.subgroup(Disconnected) is not None
    assert not coordinator.active


async def test_a_lease_is_kept_while_one_renewal_fails() -> None:
    async with a_house() as house:
        ledger = house.ledger()
        lease = Lease(ledger, FAST, "holder", Metrics())
        epoch = await lease.acquire(asyncio.Event(), lambda: True)
        assert epoch == 1 and 0 < lease.seconds_left() <= FAST.lease_seconds
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(lease.keep(epoch))
            house.database.down = True
            await asyncio.sleep(FAST.renew_seconds * 1.5)
            house.database.down = False
            before = house.database.lease_until
            await eventually(lambda: house.database.lease_until > before)
            assert not keeping.done()
            keeping.cancel()


def test_presence_excuses_silence_that_was_our_own() -> None:
    now = 0.0
    presence = Presence(1.0, clock=lambda: now)
    presence.hello("reader", Hello(instance="r1"))
    now = 3.0
    assert presence.silent() == []
    now = 3.5
    assert [i.name for i in presence.silent()] == ["r1"]
    presence.excuse_silence()
    assert presence.silent() == []
    assert presence.beat("reader", Beat(instance="unknown")) is None
    with pytest.raises(ValueError, match="belongs to reader"):
        presence.hello("writer", Hello(instance="r1"))


def test_settings_say_what_is_wrong_with_them(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(str(path))
    path.write_text('{"swarm": "s", "lease_second": 3}')
    with pytest.raises(ConfigError, match="lease_second"):
        load_settings(str(path))
    path.write_text('{"swarm": "s", "lease_seconds": 1, "renew_seconds": 2}')
    with pytest.raises(ConfigError, match="shorter"):
        load_settings(str(path))
    path.write_text('{"swarm": "s", "store_url": "postgresql://u:secret@h/db"}')
    assert "secret" not in repr(load_settings(str(path)))
