"""`swarm restore`: a swarm made from a copy; the next `swarm up` starts it."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from deploy.cli.frame import add_common
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("copy", metavar="COPY", type=Path, help="what `swarm backup` wrote")


def run(args: Namespace) -> int:
    from deploy.backup import restore
    from swarm.errors import UsageError
    from swarm.project import Project

    if not args.copy.is_file():
        raise UsageError(f"There is no {args.copy}; give what `swarm backup` wrote.")
    asyncio.run(restore(Project.find(args.file), args.copy))
    if args.json:
        put_json({"copy": str(args.copy), "restored": True})
    else:
        print(f"restored from {args.copy}; start it with `swarm up`")
    return 0
