"""The ledger under any sequence of what can be done to it: I1 to I8 on the memory implementation and on Postgres.

`make machine` runs it for longer, with new seeds; here it is short, and the same each time.
"""

from __future__ import annotations

import asyncio
import os

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.ledger_ground import MemoryGround, PostgresGround
from tests.contract.ledger_machine import LedgerMachine

LONG = int(os.environ.get("SWARM_MACHINE_EXAMPLES", "0"))
"""How many runs of the machine; 0: the few of `make test`, derandomised."""


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=LONG or examples,
        stateful_step_count=steps if not LONG else 2 * steps,
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        print_blob=bool(LONG),
    )


def test_the_ledger_in_memory_keeps_its_invariants() -> None:
    with asyncio.Runner() as runner:
        ground = MemoryGround(runner)
        run_state_machine_as_test(lambda: LedgerMachine(ground), settings=profile(60, 40))  # type: ignore[arg-type]


@pytest.mark.timeout(3600 if LONG else 120)
def test_the_ledger_on_postgres_keeps_its_invariants(postgres_url: str) -> None:
    with asyncio.Runner() as runner:
        ground = PostgresGround(runner, postgres_url)
        try:
            run_state_machine_as_test(lambda: LedgerMachine(ground), settings=profile(8, 30))  # type: ignore[arg-type]
        finally:
            ground.close()
