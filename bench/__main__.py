"""`make bench`: measure, print the table, keep the figures in `bench/results`.

python -m bench                 all of them, P1 to P9, some ten minutes
python -m bench --only P2       one, by its goal or its name; may be given more than once
"""

from __future__ import annotations

import argparse
import asyncio
import difflib
import importlib
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.report import Result, Row, describe_machine, save, text_table

GOALS = {
    "ask": "P1", "tell": "P2", "announce": "P3", "agents": "P4", "turn": "P5", "growth": "P6", "backlog": "P7",
    "endurance": "P5-endurance", "start": "P8", "rebuild": "P9",
}  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure the goals for speed and memory."
    )
    parser.add_argument("--only", action="append", metavar="NAME", help=f"one of {', '.join(_names())}")
    parser.add_argument("--keep-nothing", action="store_true", help="print the table only")
    given = parser.parse_args(arguments)
    try:
        chosen = [_find(name) for name in given.only or GOALS]
    except LookupError as error:
        parser.error(str(error))
    rows: list[Row] = []
    for name in dict.fromkeys(chosen):
        print(f"{GOALS[name]} {name} …", file=sys.stderr, flush=True)
        result = run(name)
        rows += result.rows
        if not given.keep_nothing:
            save(result, RESULTS)
        for note in result.notes:
            print(f"   {note}", file=sys.stderr, flush=True)
    print(text_table(rows))
    return 0


def run(name: str) -> Result:
    """One benchmark in a folder of its own, which is gone afterwards."""
    module: Any = importlib.import_module(f"bench.{name}")
    machine, began = describe_machine(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="swarm-bench-", ignore_cleanup_errors=True) as folder:
        rows, notes, rounds = asyncio.run(module.measure(Path(folder)))
    return Result(
        name=name,
        goal=GOALS[name],
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - began, 1),
        machine=machine,
        rows=tuple(rows),
        notes=tuple(notes),
        rounds={key: [round(value, 4) for value in values] for key, values in rounds.items()},
    )


def _names() -> list[str]:
    return [*GOALS.values(), *GOALS]


def _find(given: str) -> str:
    for name, goal in GOALS.items():
        if given.lower() in (name, goal.lower()):
            return name
    close = difflib.get_close_matches(given, _names(), 1, 0.4)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise LookupError(f"There is no benchmark {given!r}{hint} There are: {', '.join(_names())}.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
