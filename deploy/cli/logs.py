"""`swarm logs`: what the processes said."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable

from deploy.cli.frame import add_json
from deploy.cli.output import put_json
from deploy.logview import POLL_SECONDS, Line, LogView, put_lines

Put = Callable[[Iterable[Line]], None]


def add(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument(
        "names", nargs="*", metavar="AGENT", help="agents, coordinator or node (default: all)"
    )
    parser.add_argument("-f", "--follow", action="store_true", help="go on as more is said")
    parser.add_argument("-n", "--lines", type=int, default=20, metavar="N", help="lines of each log (20)")
    parser.add_argument("--file", metavar="FILE", help="swarm.toml or its folder (else: here and upward)")


def run(args: Namespace) -> int:
    from bus.errors import Refused
    from swarm.errors import NotRunning, near
    from swarm.project import Project

    project = Project.find(args.file)
    if not project.logs.is_dir():
        raise NotRunning(f"Nothing has run in {project.folder} yet; start it with `swarm up`.")
    view = LogView(project, set(args.names) or None)
    known = view.names()
    for name in args.names:
        if name not in known:
            raise Refused(f"There is no log of {name!r}{near(name, known)}", reason="unknown_agent")
    put = _put_json_lines if args.json else _put_text
    put(view.tail(max(0, args.lines)))
    if args.follow:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_follow(view, put))
    return 0


async def _follow(view: LogView, put: Put) -> None:
    while True:
        put(view.new())
        await asyncio.sleep(POLL_SECONDS)


def _put_text(lines: Iterable[Line]) -> None:
    put_lines(iter(lines), sys.stdout)


def _put_json_lines(lines: Iterable[Line]) -> None:
    for line in lines:
        put_json(line._asdict())
    sys.stdout.flush()
