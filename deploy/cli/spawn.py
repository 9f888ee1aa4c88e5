"""`swarm spawn`: a child of an agent, made at run time. It lives until it is removed, in no swarm file."""

from __future__ import annotations

import asyncio
from argparse import ArgumentParser, Namespace
from pathlib import Path

from deploy.cli.frame import UsageMistake, add_common, positive, with_swarm
from deploy.cli.output import put_json
from deploy.cli.rights import read_rights


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("character", help="a gallery folder, a file or a URL")
    parser.add_argument("--parent", required=True, metavar="AGENT", help="it needs the right create_children")
    parser.add_argument("--name", metavar="NAME", help="of the child (default: made of its character's name)")
    parser.add_argument(
        "--permission",
        action="append",
        default=[],
        metavar="RIGHT[=false]",
        help="create_children, control_children, …; again for more; never more than the parent has",
    )
    parser.add_argument(
        "--orphans",
        choices=("stop", "reparent", "keep"),
        default="keep",
        help="its own children, when it dies",
    )
    parser.add_argument("--role", action="append", default=[], metavar="ROLE", help="again for more")
    parser.add_argument(
        "--secret", action="append", default=[], metavar="NAME", help="a secret of the parent that it gets"
    )
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="seconds to wait (60)")


def run(args: Namespace) -> int:
    from swarm.project import Project
    from swarm.spawning import new_child

    rights = read_rights(args.permission)
    folder = Project.find(args.file).folder
    child = asyncio.run(
        new_child(
            _source(args.character, folder),
            project=folder,
            name=args.name,
            permissions=rights,
            orphans=args.orphans,
            roles=args.role,
            secrets=args.secret,
        )
    )
    answer = with_swarm(args, lambda swarm: swarm.spawn(child, parent=args.parent, timeout=args.timeout))
    if args.json:
        put_json(answer)
    elif answer["ready"]:
        print(
            f"{answer['agent']} is {'a new' if answer['created'] else 'the same'} child of {answer['parent']}"
        )
    else:
        why = answer["reason"] or f"not after {args.timeout:g} s"
        print(f"{answer['agent']} is known and not ready ({why}); see `swarm logs {answer['agent']}`")
    if answer["ready"]:
        return 0
    return 1 if answer["reason"] else 4


def _source(given: str, folder: Path) -> str:
    """Relative to where one stands, or, like a path in swarm.toml, to the project."""
    if given.partition(":")[0] in ("http", "https", "env", "agent"):
        if given.startswith("agent:"):
            raise UsageMistake("A child is made of a folder, a file or a URL, not of another agent.")
        return given
    here = Path.cwd() / given
    return str(here if here.exists() else folder / given)
