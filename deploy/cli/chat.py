"""`swarm chat`: a conversation with an agent from the terminal, its answers as they are made."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator

from deploy.cli.frame import add_common, positive, say_error, with_swarm
from deploy.cli.output import name_colour, paint, put_json
from deploy.cli.streamed import StreamedText


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", help="a name, an id or role:NAME")
    parser.add_argument("--room", help="go on with the conversation of that name (default: a new one)")
    parser.add_argument(
        "--timeout", type=positive, default=120.0, metavar="S", help="seconds for an answer (120)"
    )


def run(args: Namespace) -> int:
    """Exit code 0 at the end of the input; an answer that fails is said and the conversation goes on."""
    room = args.room or _fresh_room()
    _require_known(args)
    person = sys.stdin.isatty()
    if person and not args.json:
        print(f"You talk to {args.agent} in the room {room}. Ctrl-D ends it.", file=sys.stderr)
    for line in _lines(person):
        if line.strip():
            _exchange(args, room, line.strip())
    return 0


def _exchange(args: Namespace, room: str, line: str) -> None:
    from bus.errors import BusError

    show = StreamedText()
    if not args.json:
        sys.stdout.write(paint(f"{args.agent}> ", name_colour(args.agent)))
        sys.stdout.flush()
    try:
        reply = with_swarm(
            args,
            lambda swarm: swarm.ask(
                args.agent,
                line,
                room=room,
                timeout=args.timeout,
                on_chunk=None if args.json else show.piece,
            ),
        )
    except BusError as error:
        if not args.json:
            print()
        say_error(error.text, 1, error.reason, args.json)
    except KeyboardInterrupt:
        print("\nswarm: this answer is not waited for any more", file=sys.stderr)
    else:
        if args.json:
            put_json(reply | {"room": room})
        else:
            show.end(reply["text"])
    sys.stdout.flush()


def _lines(person: bool) -> Iterator[str]:
    if not person:
        yield from sys.stdin
        return
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401 - imported, it gives `input` a history and arrow keys
    while True:
        try:
            yield input("you> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print()


def _fresh_room() -> str:
    from swarm.ids import new_id

    return f"chat-{new_id()[-8:]}"


def _require_known(args: Namespace) -> None:
    """Say now that there is no such agent, not after the first line. Raises UnknownAgent."""
    from swarm.errors import UnknownAgent

    if args.agent.startswith("role:"):
        return
    rows = with_swarm(args, lambda swarm: swarm.ps())
    names = {row["name"] for row in rows}
    if args.agent not in names | {row["agent_id"] for row in rows}:
        raise UnknownAgent(args.agent, names)
