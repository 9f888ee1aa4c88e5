"""`swarm delegate`: a task for an agent."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from deploy.cli.frame import UsageMistake, add_common, positive, whole, with_swarm
from deploy.cli.output import cell, put_json
from swarm.records import DEADLINE_PASSED

WITHOUT_DEADLINE = 3600.0


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent")
    parser.add_argument("goal")
    parser.add_argument("--as", dest="parent", metavar="PARENT", help="the authority (default: the operator)")
    parser.add_argument("--input", metavar="JSON", help="an object, or @FILE that holds one")
    parser.add_argument(
        "--deadline", type=positive, metavar="S", help="seconds after which it has failed (exit code 4)"
    )
    parser.add_argument("--attempts", type=whole(1, 100), metavar="N", help="at most so many (default: 3)")
    parser.add_argument("--wait", action="store_true", help="until it has ended, or asks for input")


def run(args: Namespace) -> int:
    given = _input(args.input)
    wait = (args.deadline + 5.0 if args.deadline else WITHOUT_DEADLINE) if args.wait else None
    task = with_swarm(
        args,
        lambda swarm: swarm.delegate(
            args.agent,
            args.goal,
            parent=args.parent,
            input=given,
            deadline=args.deadline,
            max_attempts=args.attempts,
            wait=wait,
        ),
    )
    put_task(task, args.json)
    return code_of(task, waited=args.wait)


def code_of(task: dict[str, Any], *, waited: bool) -> int:
    """4 when a deadline is why there is no result: the task's own, or that of the waiting. 1 when there is none for
    another reason: it ended otherwise, or it waits for an answer."""
    match task["state"]:
        case "completed":
            return 0
        case "failed" if task["error"] == DEADLINE_PASSED:
            return 4
        case "failed" | "rejected" | "canceled":
            return 1
        case "input-required" if waited:
            return 1
    return 4 if waited else 0


def put_task(task: dict[str, Any], as_json: bool) -> None:
    if as_json:
        put_json(task)
        return
    print(f"{task['id']}  {task['state']}  attempt {task['attempts']}")
    if task["error"]:
        print(task["error"])
    if task["result"]:
        print(task["result"]["text"])
    if task["question"]:
        put_question(task)


def put_question(task: dict[str, Any]) -> None:
    print(f"  it asks: {cell(task['question'])}\n  swarm task answer {task['id']} TEXT", flush=True)


def _input(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageMistake(f"--input: {text[1:]} cannot be read ({error}).") from error
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageMistake(f"--input is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise UsageMistake('--input must be a JSON object, such as \'{"path": "README.md"}\'.')
    return value
