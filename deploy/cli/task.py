"""`swarm task ls, show, watch, cancel, answer, retry`: the delegation ledger."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from deploy.cli.delegate import put_question
from deploy.cli.frame import UsageMistake, add_common, positive, row_id, whole, with_swarm
from deploy.cli.output import ago, cell, put_json, put_json_lines, put_table, span
from swarm.records import TaskState

if TYPE_CHECKING:
    from swarm.client import Swarm

COLUMNS = ("id", "state", "parent", "child", "attempts", "progress", "age", "goal")


def add(parser: ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="ls|show|watch|cancel|answer|retry")
    every = verbs.add_parser("ls", help="the newest tasks")
    add_common(every)
    every.add_argument("--limit", type=whole(1, 1000), default=100, metavar="N")
    every.add_argument(
        "--state", choices=get_args(TaskState), metavar="STATE", help="only those of this state"
    )
    every.add_argument("--agent", metavar="AGENT", help="only those given by or to this agent")
    show = _of_one(verbs, "show", "one task and the tree of those delegated in its course")
    show.add_argument("--wait", type=positive, metavar="S", help="seconds to wait for its end")
    watch = _of_one(verbs, "watch", "follow a task to its end")
    watch.add_argument(
        "--timeout", type=positive, default=3600.0, metavar="S", help="at most so long (exit code 4)"
    )
    cancel = _of_one(verbs, "cancel", "cancel a task and all below it")
    cancel.add_argument("--reason", default="", metavar="TEXT")
    answer = _of_one(verbs, "answer", "answer what a task asks for")
    answer.add_argument("text", nargs="?", default="")
    answer.add_argument("--data", metavar="JSON", help="an object, for programs")
    retry = _of_one(verbs, "retry", "give a task that did not complete once more")
    for parser in (cancel, answer, retry):
        parser.add_argument(
            "--as", dest="sender", metavar="AGENT", help="the authority (default: the operator)"
        )


def _of_one(verbs: Any, name: str, help_text: str) -> ArgumentParser:
    parser: ArgumentParser = verbs.add_parser(name, help=help_text)
    add_common(parser)
    parser.add_argument("id")
    return parser


def run(args: Namespace) -> int:
    if args.verb == "ls":
        return _list(args)
    args.id = row_id(args.id)
    match args.verb:
        case "show":
            return _show(args)
        case "watch":
            return _watch(args)
        case "cancel":
            work = lambda swarm: swarm.cancel(args.id, reason=args.reason, sender=args.sender)  # noqa: E731
        case "answer":
            data = _data(args)
            work = lambda swarm: swarm.answer(args.id, args.text, data=data, sender=args.sender)  # noqa: E731
        case _:
            work = lambda swarm: swarm.retry(args.id, sender=args.sender)  # noqa: E731
    task = with_swarm(args, work)
    if args.json:
        put_json(task)
    else:
        print(_line(task))
    return 1 if args.verb == "cancel" and task["state"] != "canceled" else 0


def _list(args: Namespace) -> int:
    tasks = with_swarm(args, lambda swarm: swarm.tasks(limit=args.limit, state=args.state, agent=args.agent))
    if args.json:
        put_json_lines(tasks)
    else:
        put_table([task | {"age": ago(task["created_at"])} for task in tasks], COLUMNS)
    return 0


def _show(args: Namespace) -> int:
    task = with_swarm(args, lambda swarm: swarm.task(args.id, wait=args.wait))
    if args.json:
        put_json(task)
        return 0
    for name, value in task.items():
        if value not in (None, [], {}) and name not in ("subtasks", "inputs"):
            print(f"{name:<12} {value['text'] if name == 'result' else value}")
    for told in task.get("inputs", ()):
        print(f"{'asked':<12} {told['question']}")
        if told["answer"] is not None:
            print(
                f"{'answered':<12} {told['answer']['text'] or told['answer']['data']} ({told['answered_by']})"
            )
    if task.get("subtasks"):
        print()
        print(_line(task))
        for line in _tree(task["subtasks"]):
            print(line)
    return 0


def _watch(args: Namespace) -> int:
    """One line for each change; the exit code says how it ended."""

    async def follow(swarm: Swarm) -> str:
        state = ""
        async for task in swarm.watch(args.id, timeout=args.timeout):
            state = task["state"]
            if args.json:
                put_json(task)
            else:
                below = ", ".join(f"{count} {name}" for name, count in task["subtasks"].items())
                print(_line(task) + (f"  [{below}]" if below else ""), flush=True)
                if task["question"]:
                    put_question(task)
                if task["result"]:
                    print(task["result"]["text"])
        return state

    return 0 if with_swarm(args, follow) == "completed" else 1


def _tree(tasks: list[dict[str, Any]], before: str = "") -> Iterator[str]:
    for n, task in enumerate(tasks):
        last = n == len(tasks) - 1
        yield f"{before}{'└── ' if last else '├── '}{_line(task)}"
        yield from _tree(task["subtasks"], before + ("    " if last else "│   "))


def _line(task: dict[str, Any]) -> str:
    """A task in one line: its state, how long it waited and ran, whose it is, what it says."""
    end = task["ended_at"] or int(time.time() * 1000)
    begun = task["begun_at"]
    waited = span(max(0, (begun or end) - task["created_at"]) / 1000)
    ran = f", ran {span(max(0, end - begun) / 1000)}" if begun else ""
    parts = [task["id"], task["state"], f"{task['parent']} → {task['child']}", f"waited {waited}{ran}"]
    if task["attempts"] > 1:
        parts.append(f"attempt {task['attempts']}")
    if task["progress"] is not None:
        parts.append(f"{task['progress']:g} %")
    said = task["error"] or task["note"] or task["goal"]
    return "  ".join([*parts, cell(said)[:100]])


def _data(args: Namespace) -> dict[str, Any] | None:
    if args.data is None:
        if not args.text:
            raise UsageMistake("An answer has a TEXT, or --data, or both; see `swarm task answer --help`.")
        return None
    try:
        value = json.loads(args.data)
    except ValueError as error:
        raise UsageMistake(f"--data is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UsageMistake('--data must be a JSON object, such as \'{"colour": "red"}\'.')
    return value
