"""`swarm inbox`: an agent's offline queue."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, with_swarm
from deploy.cli.output import ago, put_json, put_table, span


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent")


def run(args: Namespace) -> int:
    inbox = with_swarm(args, lambda swarm: swarm.inbox(args.agent))
    if args.json:
        put_json(inbox)
        return 0
    oldest = f", the oldest for {ago(inbox['oldest_at'])}" if inbox["oldest_at"] else ""
    bounds = inbox["bounds"]
    print(f"{inbox['agent']}: {inbox['waiting']} waiting{oldest}; {inbox['in_flight']} in hand")
    print(
        f"{inbox['bytes']} bytes; bounds: {bounds['messages']} messages, {bounds['bytes']} bytes, "
        f"{span(bounds['seconds'])}"
    )
    if inbox["first"]:
        put_table(inbox["first"], ("id", "from", "room", "kind", "text"))
    return 0
