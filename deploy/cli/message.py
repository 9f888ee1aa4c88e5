"""`swarm message show`: a message and what became of each delivery."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, row_id, with_swarm
from deploy.cli.output import ago, put_json, put_table


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="show")
    show = verbs.add_parser("show", help="the message and each delivery")
    add_common(show)
    show.add_argument("id")


def run(args: Namespace) -> int:
    message = with_swarm(args, lambda swarm: swarm.message(row_id(args.id)))
    if args.json:
        put_json(message)
        return 0
    accepted = ago(message["accepted_at"])
    print(
        f"{message['kind']} from {message['from']} to {message['to']} in room {message['room']}, {accepted} ago"
    )
    print(f"{message['text']}\n")
    put_table(message["deliveries"], ("to", "state", "attempts", "reason"))
    return 0
