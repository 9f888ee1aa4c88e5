"""`swarm scale`: more or fewer replicas; those that go drain first."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from deploy.cli.frame import add_common, positive, with_swarm
from deploy.cli.output import put_json
from swarm.scaling import MOST_REPLICAS


def add(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("agent", metavar="AGENT")
    parser.add_argument("replicas", type=_replicas, metavar="N", help="how many; 0 is none")
    parser.add_argument("--timeout", type=positive, default=60.0, metavar="S", help="seconds to wait (60)")


def run(args: Namespace) -> int:
    answer = with_swarm(args, lambda swarm: swarm.scale(args.agent, args.replicas, timeout=args.timeout))
    done = answer["done"]
    if args.json:
        put_json(answer)
    elif done:
        print(f"{answer['agent']}: {answer['before']} → {answer['replicas']} replicas")
    else:
        print(
            f"{answer['agent']} is to have {answer['replicas']} replicas and has {len(answer['instances'])} ready "
            f"after {args.timeout:g} s; see `swarm ps` and `swarm logs {answer['agent']}`"
        )
    return 0 if done else 4


def _replicas(text: str) -> int:
    if not text.isdecimal() or int(text) > MOST_REPLICAS:
        raise ArgumentTypeError(f"{text!r} is not a number of replicas: 0 to {MOST_REPLICAS}")
    return int(text)
