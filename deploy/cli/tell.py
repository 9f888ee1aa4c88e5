"""`swarm tell`: a message that is kept until it is handled."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", help="a name, an id, role:NAME (one of them) or group:NAME (all of it)")
    parser.add_argument("text")
    parser.add_argument("--room", help="the conversation (default: operator)")
    parser.add_argument("--ttl", type=positive, metavar="S", help="seconds after which it expires unhandled")


def run(args: Namespace) -> int:
    receipt = with_swarm(args, lambda swarm: swarm.tell(args.agent, args.text, room=args.room, ttl=args.ttl))
    if args.json:
        put_json(receipt)
    else:
        print(f"accepted {receipt['id']}")
    return 0
