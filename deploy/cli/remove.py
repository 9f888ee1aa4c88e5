"""`swarm remove`: take spawned agents out of the swarm; their mail and their memories stay."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.change import add_change, run_change


def add(parser: ArgumentParser) -> None:
    add_change(parser)


def run(args: Namespace) -> int:
    return run_change(
        args, lambda swarm, agent, timeout: swarm.remove(agent, timeout=timeout), "stopped", "removed"
    )
