"""`swarm permit`: give or take rights of a spawned agent. Those of the others stand in swarm.toml."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, with_swarm
from deploy.cli.output import put_json
from deploy.cli.rights import read_rights


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent")
    parser.add_argument("rights", nargs="+", metavar="RIGHT[=false]", help="as in control_children=false")


def run(args: Namespace) -> int:
    rights = read_rights(args.rights)
    answer = with_swarm(args, lambda swarm: swarm.permit(args.agent, **rights))
    if args.json:
        put_json(answer)
        return 0
    has = [right.replace("_", " ") for right, given in answer["permissions"].items() if given]
    print(f"{answer['agent']} may {', '.join(has) or 'nothing of its parent or children'}")
    return 0
