"""What the coordinator tells of the whole swarm: the numbers that the runbook's alarms are made of."""

from __future__ import annotations

from coordinator.families import CoordinatorFamilies
from swarm.metrics.family import Family
from tests.coordinator_house import a_house, plan


def numbers(families: list[Family], name: str) -> dict[str, float]:
    """The values of one family by their only label."""
    (family,) = [one for one in families if one.name == name]
    return {
        "".join(labels.values()): value for labels, value in family.samples if isinstance(value, int | float)
    }


async def test_g8_the_active_coordinator_tells_who_is_up_and_what_waits_for_how_long() -> None:
    async with a_house() as house:
        await house.provision(plan("reader"), plan("writer"))
        coordinator = await house.coordinator()
        await house.instance("reader")
        await house.command("tell", agent="writer", text="waits")
        families = CoordinatorFamilies(house.ledger(), coordinator.metrics, lambda: coordinator.term)
        found = list(await families.read())
        assert numbers(found, "swarm_agent_up") == {"reader": 1, "writer": 0}
        assert numbers(found, "swarm_inbox_pending") == {"reader": 0, "writer": 1}
        assert numbers(found, "swarm_inbox_oldest_seconds")["writer"] >= 0
        assert numbers(found, "swarm_deliveries")["accepted"] == 1
        assert numbers(found, "swarm_coordinator_active") == {"": 1}


async def test_a_standby_tells_only_its_own() -> None:
    async with a_house() as house:
        coordinator = await house.coordinator()
        families = CoordinatorFamilies(house.ledger(), coordinator.metrics, lambda: None)
        found = list(await families.read())
        assert numbers(found, "swarm_coordinator_active") == {"": 0}
        assert all(family.name.startswith("swarm_coordinator_") for family in found)
