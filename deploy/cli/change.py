"""What `swarm start`, `stop` and `restart` share: agents in turn, each until it is as it should be."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable
from typing import Any

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json

Change = Callable[[Any, str, float], Awaitable[dict[str, Any]]]


def add_change(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agents", nargs="+", metavar="AGENT")
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="seconds to wait (60)")


def run_change(args: Namespace, change: Change, done: str, said: str | None = None) -> int:
    """`done` is the word of the answer that says whether it came about in time, `said` how people hear of it, if
    otherwise. Exit code 4 when not."""

    async def all_of_them(swarm: Any) -> list[dict[str, Any]]:
        return [await change(swarm, agent, args.timeout) for agent in args.agents]

    code = 0
    for answer in with_swarm(args, all_of_them):
        if not answer[done]:
            code = 4
        if args.json:
            put_json(answer)
        elif answer[done]:
            print(f"{answer['agent']} is {said or done}")
        else:
            print(
                f"{answer['agent']} is not {done} after {args.timeout:g} s; see `swarm logs {answer['agent']}`"
            )
    return code
