"""`swarm announce`: a message to everyone but its sender, with a report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import UsageMistake, add_common, positive, row_id, with_swarm
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("text", nargs="?")
    parser.add_argument(
        "--to", default="all", metavar="ADDRESS", help="all (default), group:NAME, role:NAME, children"
    )
    parser.add_argument("--report", metavar="ID", help="look at one that was made before, instead")
    parser.add_argument("--as", dest="sender", metavar="AGENT", help="who says it (default: the operator)")
    parser.add_argument("--wait", type=positive, default=0.0, metavar="S", help="seconds to wait for all")


def run(args: Namespace) -> int:
    if (args.text is None) == (args.report is None):
        raise UsageMistake("Say a text to announce, or --report with the id of an earlier announcement.")
    if args.report is not None:
        id = row_id(args.report)
        report = with_swarm(args, lambda swarm: swarm.announcement(id, wait=args.wait))
    else:
        report = with_swarm(
            args, lambda swarm: swarm.announce(args.text, to=args.to, sender=args.sender, wait=args.wait)
        )
    if args.json:
        put_json(report)
        return 0
    print(f"{report['id']}: {report['handled']} of {report['recipients']} handled")
    for one in report["missing"]:
        print(f"  {one['name']}: {one['why']}")
    return 0
