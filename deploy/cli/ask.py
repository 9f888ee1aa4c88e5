"""`swarm ask`: one answer, or one error, by a deadline."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", help="a name, an id or role:NAME")
    parser.add_argument("text")
    parser.add_argument("--room", help="the conversation (default: operator)")
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="seconds to wait (60)")
    parser.add_argument("--stream", action="store_true", help="print the answer as it is made")


def run(args: Namespace) -> int:
    streamed = False

    def on_chunk(piece: str) -> None:
        nonlocal streamed
        streamed = True
        if args.json:
            put_json({"chunk": piece})
        else:
            sys.stdout.write(piece)
        sys.stdout.flush()

    reply = with_swarm(
        args,
        lambda swarm: swarm.ask(
            args.agent,
            args.text,
            room=args.room,
            timeout=args.timeout,
            on_chunk=on_chunk if args.stream else None,
        ),
    )
    if args.json:
        put_json(reply)
    elif streamed:
        print()
    else:
        print(reply["text"])
    return 0
