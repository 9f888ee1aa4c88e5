"""Safeguards switched off, one each, in the battery's own schema: each must be caught, or the battery proves nothing.

`python -m tests.faults.battery.mutants` runs each, and prints which invariants flagged it. Exit code 1 when one lives.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.battery.run import run

SECONDS: Final = 12.0
QUIET_SECONDS: Final = 15.0


def without(function: str, pattern: str, instead: str = "") -> str:
    """SQL that makes a function anew without what a regular expression finds in it; it must be there."""
    return f"""
do $mutant$
declare
    v_old text := pg_get_functiondef('{{s}}.{function}'::regproc);
    v_new text := regexp_replace(v_old, $r${pattern}$r$, $r${instead}$r$, 'g');
begin
    if v_new = v_old then
        raise exception 'There is no such safeguard in {function}';
    end if;
    execute v_new;
end $mutant$;
"""


@dataclass(frozen=True)
class Mutant:
    """`kinds` are the faults that the safeguard is for; `by` the invariants of which one must flag it."""

    sql: str
    kinds: tuple[str, ...]
    by: frozenset[str]


MUTANTS: Final = {
    "commit without the handled condition": Mutant(
        without("commit_turn", r"and d\.handled_at is null and d\.state in \('accepted', 'dispatched'\)"),
        ("swallow_postgres", "part_agent_from_nats"),
        frozenset({"I2"}),
    ),
    "no order gate": Mutant(
        without("commit_turn", r"and not exists \(\s*-- the order gate.*?e\.seq < d\.seq\)"),
        ("restart_nats", "hang_up_nats", "stall_nats"),
        frozenset({"I3"}),
    ),
    "no re-dispatch": Mutant(
        without("release_deliveries", r"d\.state = 'dispatched'", "false")
        + without("release_all_but", r"d\.state = 'dispatched'", "false"),
        ("kill_agent", "restart_nats"),
        frozenset({"I1", "I13"}),
    ),
    "no row security on memories": Mutant(
        "alter table {s}.memories disable row level security;", ("kill_agent",), frozenset({"I9"})
    ),
    "no fence of the lease": Mutant(
        "create or replace function {s}.battery_check_lease(p_epoch bigint) returns void language sql as 'select';"
        "create or replace function {s}.battery_hold_lease(p_epoch bigint) returns void language sql as 'select';",
        ("pause_coordinator",),
        frozenset({"I8"}),
    ),
}


async def judge(folder: Path, name: str, seed: int) -> tuple[bool, str]:
    """Whether it was caught by what should catch it, and a line of the matrix."""
    mutant = MUTANTS[name]
    began = time.monotonic()
    report = await run(
        folder, seed, SECONDS, kinds=mutant.kinds, mutation=mutant.sql, quiet_bound=QUIET_SECONDS
    )
    caught = bool(mutant.by & report.violations.keys())
    flagged = ", ".join(report.violations) or "nothing"
    word = "caught" if caught else "LIVES"
    return caught, f"| {name} | {word} by {flagged} | {seed} | {time.monotonic() - began:.0f} s |"


def main() -> int:
    seed = int(os.environ.get("SEED") or "7")
    base = Path(tempfile.mkdtemp(prefix="mutants-"))
    chosen = os.environ.get("KINDS") or ""
    lives = 0
    for number, name in enumerate(name for name in MUTANTS if chosen in name):
        caught, line = asyncio.run(judge(base / str(number), name, seed))
        print(line, flush=True)
        lives += not caught
    return 1 if lives else 0


if __name__ == "__main__":
    sys.exit(main())
