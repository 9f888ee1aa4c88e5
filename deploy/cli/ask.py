"""`swarm ask`: one answer, or one error, by a deadline."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json
from deploy.cli.streamed import StreamedText

if TYPE_CHECKING:
    from swarm.pieces import Piece


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", help="a name, an id or role:NAME")
    parser.add_argument("text")
    parser.add_argument("--room", help="the conversation (default: operator)")
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="seconds to wait (60)")
    parser.add_argument("--stream", action="store_true", help="print the answer as it is made")


def run(args: Namespace) -> int:
    show = _Json() if args.json else StreamedText()
    reply = with_swarm(
        args,
        lambda swarm: swarm.ask(
            args.agent,
            args.text,
            room=args.room,
            timeout=args.timeout,
            on_chunk=show.piece if args.stream else None,
        ),
    )
    if args.json:
        put_json(reply)
    else:
        show.end(reply["text"])
    return 0


class _Json:
    """An object a line: each piece with its run and number, then the whole reply."""

    def piece(self, piece: Piece) -> None:
        put_json(
            {
                "chunk": piece.text,
                "message_id": piece.message_id,
                "run_id": piece.run_id,
                "seq": piece.seq,
                "final": piece.final,
                "restarted": piece.restarted,
            }
        )
        sys.stdout.flush()

    def end(self, text: str) -> None:
        """The reply is printed as it is."""
