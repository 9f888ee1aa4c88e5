"""`swarm announce`: a message to everyone but its sender, with a report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("text")
    parser.add_argument("--as", dest="sender", metavar="AGENT", help="who says it (default: the operator)")
    parser.add_argument("--wait", type=positive, default=0.0, metavar="S", help="seconds to wait for all")


def run(args: Namespace) -> int:
    report = with_swarm(args, lambda swarm: swarm.announce(args.text, sender=args.sender, wait=args.wait))
    if args.json:
        put_json(report)
        return 0
    print(f"{report['id']}: {report['handled']} of {report['recipients']} handled")
    for name in report["pending"]:
        print(f"  {name}: {report.get('reasons', {}).get(name, 'pending')}")
    return 0
