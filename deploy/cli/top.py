"""`swarm top`: what runs and what it does, drawn anew every two seconds."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json, put_table

COLUMNS: Final = (
    "name", "instance", "status", "node", "inbox", "in_flight", "turns", "turns_per_s", "errors", "restarts", "rss_mb",
)  # fmt: skip
HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"
Rows = Sequence[Mapping[str, Any]]


class Look(NamedTuple):
    """One look at the swarm; `at` is monotonic, in seconds."""

    at: float
    rows: list[dict[str, Any]]
    ledger: dict[str, int]


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument(
        "-i", "--interval", type=positive, default=2.0, metavar="S", help="seconds between two looks (2)"
    )
    parser.add_argument("-n", "--count", type=_count, metavar="N", help="end after N looks (default: Ctrl-C)")


def run(args: Namespace) -> int:
    """With --json an object a look: `{"agents": rows, "ledger": {"deliveries.handled": n, …}}`."""
    before: Look | None = None
    left = args.count
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            look = _look(args)
            _put(args, look, before)
            before = look
            left = None if left is None else left - 1
            if left == 0:
                break
            time.sleep(args.interval)
    return 0


def _look(args: Namespace) -> Look:
    async def both(swarm: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        return await swarm.ps(), await swarm.stats()

    rows, stats = with_swarm(args, both)
    return Look(time.monotonic(), rows, stats["ledger"])


def _put(args: Namespace, look: Look, before: Look | None) -> None:
    rows = with_rates(look, before)
    if args.json:
        put_json({"agents": rows, "ledger": look.ledger})
        sys.stdout.flush()
        return
    page = io.StringIO()  # written at once, so that the screen does not flicker
    with contextlib.redirect_stdout(page):
        print(summary(look))
        put_table([row for row in rows if row["instance"] or row["reason"] != "stopped"], COLUMNS)
    sys.stdout.write((HOME_AND_CLEAR if sys.stdout.isatty() else "") + page.getvalue())
    sys.stdout.flush()


def with_rates(look: Look, before: Look | None) -> list[dict[str, Any]]:
    """The rows with `turns_per_s` since the last look, the busiest first; None where nothing is known yet."""
    known = {} if before is None else {row["instance"]: row["turns"] for row in before.rows}
    rows = []
    for row in look.rows:
        rate = None
        if before is not None and row["instance"] in known:
            rate = round(max(0, row["turns"] - known[row["instance"]]) / (look.at - before.at), 1)
        rows.append(row | {"turns_per_s": rate})
    return sorted(rows, key=lambda row: (-(row["turns_per_s"] or 0.0), -row["inbox"], row["name"]))


def summary(look: Look) -> str:
    """One line over the table."""
    ready = sum(row["status"] == "ready" for row in look.rows)
    count = look.ledger.get
    open_tasks = sum(count(f"tasks.{state}", 0) for state in ("submitted", "working", "input-required"))
    return (
        f"{ready} ready of {sum(bool(row['instance']) for row in look.rows)} instances · "
        f"{count('deliveries.accepted', 0)} waiting · {count('deliveries.dispatched', 0)} in hand · "
        f"{count('deliveries.handled', 0)} handled · {count('deliveries.dead', 0)} dead · {open_tasks} open tasks"
    )


def _count(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) <= 1_000_000:
        raise ArgumentTypeError(f"{text!r} is not a number of looks")
    return int(text)
