"""`swarm ps`: what runs."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from deploy.cli.frame import add_common, with_swarm
from deploy.cli.output import put_json_lines, put_table

if TYPE_CHECKING:
    from swarm.client import Swarm

COLUMNS = ("name", "instance", "status", "node", "pid", "inbox", "in_flight", "restarts", "rss_mb", "version")


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("-a", "--all", action="store_true", help="also agents that were stopped")


def run(args: Namespace) -> int:
    rows, active = with_swarm(args, _look)
    if not args.all:
        rows = [row for row in rows if row["instance"] or row["reason"] != "stopped"]
    if args.json:
        put_json_lines(rows)
        return 0
    put_table(rows, COLUMNS)
    print(f"\ncoordinator {active['coordinator']}, epoch {active['epoch']}")
    for row in rows:
        if row["status"] == "quarantined":
            print(f"\n{row['name']}/{row['instance']} is quarantined: {row['reason']}")
        elif (
            row["status"] == "absent" and len(row["reason"].split()) > 3
        ):  # a sentence, no word such as stopped
            print(f"\n{row['name']} is absent: {row['reason']}")
    for text, names in _limits(rows).items():
        print(f"\n{', '.join(names)}: refused: {text}")
    return 0


async def _look(swarm: Swarm) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return await swarm.ps(), await swarm.ping()


def _limits(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    """What was refused lately, with the names of those whom it concerns."""
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["limit"] and row["name"] not in found.setdefault(row["limit"], []):
            found[row["limit"]].append(row["name"])
    return found
