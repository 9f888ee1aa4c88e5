"""`swarm dead ls`, `show`, `requeue` and `drop`: what expired or died, and what to do about it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from deploy.cli.frame import UsageMistake, add_common, whole, with_swarm
from deploy.cli.output import ago, put_json, put_json_lines, put_table

COLUMNS = ("delivery", "id", "from", "to", "kind", "state", "attempts", "age", "status", "reason")


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|requeue|drop")
    every = verbs.add_parser("ls", help="the newest first")
    add_common(every)
    every.add_argument("--agent", help="only those to this one")
    every.add_argument("--limit", type=whole(1, 1000), default=100, metavar="N")
    every.add_argument("-a", "--all", action="store_true", help="also those requeued or dropped")
    show = verbs.add_parser("show", help="all that is known about one")
    requeue = verbs.add_parser("requeue", help="send one again, or many, if that is allowed today")
    requeue.add_argument("--all", action="store_true", help="the oldest first, --limit at most")
    requeue.add_argument("--limit", type=whole(1, 1000), default=100, metavar="N")
    drop = verbs.add_parser("drop", help="be done with one; it stays on record")
    for one in (show, requeue, drop):
        add_common(one)
        one.add_argument(
            "id", nargs="?" if one is requeue else None, help="a message's id, or a delivery's number"
        )
        one.add_argument("--agent", help="the recipient, where a message had many")


def run(args: Namespace) -> int:
    verbs: dict[str, Callable[[Namespace], int]] = {
        "ls": _list, "show": _show, "requeue": _requeue, "drop": _drop,
    }  # fmt: skip
    return verbs[args.verb](args)


def _list(args: Namespace) -> int:
    rows = with_swarm(args, lambda swarm: swarm.dead(agent=args.agent, limit=args.limit, settled=args.all))
    if args.json:
        put_json_lines(rows)
    else:
        put_table([row | {"age": ago(row["ended_at"])} for row in rows], COLUMNS)
    return 0


def _show(args: Namespace) -> int:
    letter = with_swarm(args, lambda swarm: swarm.dead_letter(args.id, agent=args.agent))
    if args.json:
        put_json(letter)
        return 0
    for name, value in letter.items():
        if value not in (None, "", {}):
            print(f"{name:<12} {value}")
    return 0


def _requeue(args: Namespace) -> int:
    if args.all == (args.id is not None):
        raise UsageMistake("Name one dead letter, or say --all; `swarm dead ls` lists them.")
    if not args.all:
        done = with_swarm(args, lambda swarm: swarm.requeue(args.id, agent=args.agent))
        if args.json:
            put_json(done)
        else:
            print(f"{done['id']} goes again as {done['requeued_as']}")
        return 0
    report = with_swarm(args, lambda swarm: swarm.requeue_all(agent=args.agent, limit=args.limit))
    if args.json:
        put_json(report)
    else:
        print(f"{len(report['requeued'])} go again, {len(report['refused'])} are refused")
        for one in report["refused"]:
            print(f"  {one['delivery']}: {one['reason']}")
    return 5 if report["refused"] else 0


def _drop(args: Namespace) -> int:
    done = with_swarm(args, lambda swarm: swarm.drop(args.id, agent=args.agent))
    if args.json:
        put_json(done)
    else:
        print(f"dropped {done['id']} ({done['delivery']})")
    return 0
