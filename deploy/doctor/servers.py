"""The bus and the store: whether they can be reached with the credentials that are here, and are as we need them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from bus.credentials import Credentials
from bus.errors import BusError, Disconnected, Refused
from deploy.doctor.finding import Finding, fault, ok, warning
from swarm.errors import StoreDown, StoreError
from swarm.project import Project, RunState

if TYPE_CHECKING:
    from swarm.stores.postgres.condition import Condition

SKEW_SECONDS: Final = 2.0
"""A clock that differs more than this from the database's makes deadlines early or late."""
CONNECTIONS_SHARE: Final = 0.8


async def check_bus(project: Project, state: RunState) -> Finding:
    from bus.buses.nats import connect

    logs = "See `swarm logs nats`, or start the swarm again with `swarm up`."
    try:
        who = Credentials.load(project.operator_file)
    except (OSError, BusError) as error:
        return fault("bus", f"The operator's credentials cannot be read: {error}.", "Run `swarm up` again.")
    try:
        bus = await connect(state.bus_url.split(","), who, deadline=2.0)
    except Refused as error:
        return fault(
            "bus",
            f"{state.bus_url} refuses the operator's credentials: {error}",
            "It trusts another authority: give it the nats.conf of this project, or run `swarm up` again.",
        )
    except Disconnected as error:
        return fault("bus", f"{state.bus_url} cannot be reached: {error}", logs)
    await bus.close()
    return ok("bus", f"NATS answers at {state.bus_url}.")


async def check_store(project: Project, state: RunState) -> list[Finding]:
    """Needs the owner's URL, which only the machine with the project's secrets has."""
    from swarm.stores.postgres.condition import examine

    try:
        url = (project.home / "secrets" / "store_url").read_text().strip()
    except OSError:
        return [ok("store", "The database is not looked into from here: its owner's URL is elsewhere.")]
    try:
        async with asyncio.timeout(10):
            condition = await examine(url, state.swarm)
    except StoreDown as error:
        return [
            fault(
                "store", f"Postgres cannot be reached: {error}", "See `swarm logs postgres`, or `swarm up`."
            )
        ]
    except (StoreError, TimeoutError) as error:
        return [fault("store", f"Postgres does not serve: {error}", "Check the URL under [store].")]
    return [ok("store", f"Postgres {condition.server} answers."), *_of(condition)]


def _of(condition: Condition) -> Iterator[Finding]:
    if condition.trouble:
        yield fault("migrations", condition.trouble, "Run the program that fits, or restore a backup.")
    elif condition.pending:
        yield fault(
            "migrations",
            f"The schema is {len(condition.pending)} migrations behind (next: {condition.pending[0]}).",
            "`swarm up` (or `python -m deploy.prepare swarm`) applies them.",
        )
    else:
        yield ok("migrations", f"All {condition.applied} are applied.")
    skew = condition.clock - time.time()
    if abs(skew) > SKEW_SECONDS:
        yield fault(
            "clock",
            f"This machine's clock is {abs(skew):.0f} s {'behind' if skew > 0 else 'ahead of'} the database's.",
            "Synchronise both with NTP: deadlines and leases go by the database's clock.",
        )
    else:
        yield ok("clock", f"This machine and the database agree within {SKEW_SECONDS:g} s.")
    if condition.connections > CONNECTIONS_SHARE * condition.most_connections:
        yield warning(
            "connections",
            f"{condition.connections} of {condition.most_connections} connections are taken.",
            "Raise max_connections, or run fewer instances.",
        )
