"""`swarm task ls` and `show`: the delegation ledger."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.frame import add_common, positive, row_id, with_swarm
from deploy.cli.output import ago, put_json, put_json_lines, put_table

COLUMNS = ("id", "state", "parent", "child", "attempts", "progress", "age", "goal")


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show")
    every = verbs.add_parser("ls", help="the newest tasks")
    add_common(every)
    every.add_argument("--limit", type=int, default=100, choices=range(1, 1001), metavar="N")
    show = verbs.add_parser("show", help="one task and those delegated in its course")
    add_common(show)
    show.add_argument("id")
    show.add_argument("--wait", type=positive, metavar="S", help="seconds to wait for its end")


def run(args: Namespace) -> int:
    if args.verb == "ls":
        tasks = with_swarm(args, lambda swarm: swarm.tasks(limit=args.limit))
        if args.json:
            put_json_lines(tasks)
        else:
            put_table([task | {"age": ago(task["created_at"])} for task in tasks], COLUMNS)
        return 0
    task = with_swarm(args, lambda swarm: swarm.task(row_id(args.id), wait=args.wait))
    if args.json:
        put_json(task)
        return 0
    for name, value in task.items():
        if value not in (None, [], {}) and name != "subtasks":
            print(f"{name:<12} {value['text'] if name == 'result' else value}")
    if task.get("subtasks"):
        print()
        put_table([sub | {"age": ago(sub["created_at"])} for sub in task["subtasks"]], COLUMNS)
    return 0
