"""`swarm backup`: a copy of all that is durable, while the swarm runs."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from deploy.cli.frame import add_common
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("copy", metavar="COPY", type=Path, help="the file to write; it must not be there yet")


def run(args: Namespace) -> int:
    from deploy.backup import back_up
    from swarm.project import Project

    size = asyncio.run(back_up(Project.find(args.file), args.copy))
    if args.json:
        put_json({"copy": str(args.copy), "bytes": size})
    else:
        print(f"{args.copy} holds the swarm ({size / 1e6:.1f} MB); keep it as secret as the mail in it")
    return 0
