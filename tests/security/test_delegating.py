"""Delegation in the hands of raw database roles: only a parent, only to its child, only while it has the right.

`boss` has `reader` and `writer`; `boss` has spawned `chief`, and `chief` has spawned `apprentice`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest

from swarm.ids import new_id, string_to_uuid
from swarm.records import NewChild
from swarm.stores.postgres import role_name
from swarm.stores.postgres.roles import verifier
from swarm.testing import eventually
from tests.contract.store_fixtures import PostgresWorld, memory, postgres_server, postgres_url, postgres_world

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

Raw = asyncpg.Connection
LogIn = Callable[[str], Coroutine[Any, Any, Raw]]


async def spawn(world: PostgresWorld, parent: str, name: str, rights: dict[str, bool]) -> None:
    id = string_to_uuid(name)
    born = NewChild(name=name, id=id, character={"name": name}, version="1", permissions=rights)
    await world.ledger.spawn(parent, born)
    await world.ledger.set_verifier(id, verifier(role_name(world.swarm, id), world.password(name)))


@pytest.fixture
async def log_in(postgres_world: PostgresWorld) -> AsyncIterator[LogIn]:
    """Three generations, and raw connections of any of them."""
    world = postgres_world
    await spawn(world, "boss", "chief", {"create_children": True, "control_children": True})
    await spawn(world, "chief", "apprentice", {})
    async with AsyncExitStack() as stack:

        async def connect(name: str) -> Raw:
            raw = await asyncpg.connect(world.agent_url(name), server_settings={"search_path": world.swarm})
            stack.push_async_callback(raw.close)
            return raw

        yield connect


def delegate(raw: Raw, child: str, **more: Any) -> Coroutine[Any, Any, Any]:
    given = [{"id": new_id(), "child": child, "goal": "obey", **more}]
    return raw.fetch("select * from delegate_tasks($1)", json.dumps(given))


@pytest.mark.parametrize(
    ("sender", "child"),
    [
        ("boss", "stranger"),
        ("boss", "apprentice"),  # its grandchild
        ("chief", "reader"),  # a sibling
        ("chief", "boss"),  # its parent
        ("apprentice", "boss"),  # its grandparent
        ("apprentice", "chief"),
        ("chief", "chief"),
        ("stranger", "reader"),
    ],
)
async def test_only_to_a_child_of_ones_own(
    postgres_world: PostgresWorld, log_in: LogIn, sender: str, child: str
) -> None:
    raw = await log_in(sender)
    forged = {"parent": string_to_uuid("boss"), "sender": "boss", "authority": True}
    for name in (child, string_to_uuid(child)):
        with pytest.raises(asyncpg.PostgresError, match="No authority over this agent"):
            await delegate(raw, name, **forged)
    assert await postgres_world.ledger.tasks() == []
    assert await postgres_world.ledger.waiting() == {}


async def test_an_ex_child_is_nobodys_to_command_and_commands_nobody(
    postgres_world: PostgresWorld, log_in: LogIn
) -> None:
    chief, apprentice = await log_in("chief"), await log_in("apprentice")
    await delegate(chief, "apprentice")
    await postgres_world.ledger.remove_child("chief", "apprentice")
    with pytest.raises(asyncpg.PostgresError, match="No authority"):
        await delegate(chief, "apprentice")
    with pytest.raises(asyncpg.PostgresError, match="No authority"):
        await delegate(apprentice, "chief")
    await postgres_world.ledger.remove_child("boss", "chief")
    with pytest.raises(asyncpg.PostgresError, match="No authority"):
        await delegate(chief, "apprentice")
    assert len(await postgres_world.ledger.tasks()) == 1
    await postgres_world.store("boss").create_memory(memory("the safe is behind the picture"))
    assert await chief.fetchval("select count(*) from memories") == 0, "its parent no more"


async def test_the_right_ends_with_that_of_anyone_above(postgres_world: PostgresWorld, log_in: LogIn) -> None:
    chief = await log_in("chief")
    await delegate(chief, "apprentice")
    await postgres_world.ledger.permit("chief", {"control_children": False})
    with pytest.raises(asyncpg.PostgresError, match="No authority"):
        await delegate(chief, "apprentice")
    assert await postgres_world.claim("apprentice") == [], "and what waited is rejected at its assignment"


async def test_no_delegation_of_a_race_with_revocation_is_assigned_after_it(
    postgres_world: PostgresWorld, log_in: LogIn
) -> None:
    """Eight connections delegate while the right is taken: each task is refused, or was there before."""
    raws = [await log_in("chief") for _ in range(8)]
    stopped = asyncio.Event()
    granted = asyncio.Event()
    refusals: list[str] = []

    async def press(raw: Raw) -> None:
        while not stopped.is_set():
            try:
                await delegate(raw, "apprentice")
            except asyncpg.PostgresError as error:
                refusals.append(str(error))
                return
            granted.set()

    async with asyncio.TaskGroup() as group:
        for raw in raws:
            group.create_task(press(raw))
        await granted.wait()
        await postgres_world.ledger.permit("chief", {"control_children": False})
        before = len(await postgres_world.ledger.tasks(limit=100_000))
        try:
            await eventually(lambda: len(refusals) == len(raws), what="a refusal on each connection")
        finally:
            stopped.set()
    assert all("No authority" in refusal for refusal in refusals)
    assert len(await postgres_world.ledger.tasks(limit=100_000)) == before > 0
    assert await postgres_world.claim("apprentice") == []
