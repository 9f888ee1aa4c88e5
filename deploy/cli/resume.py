"""`swarm resume`: let a quarantined agent try again."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from deploy.cli.change import add_change, run_change


def add(parser: ArgumentParser) -> None:
    add_change(parser)


def run(args: Namespace) -> int:
    return run_change(args, lambda swarm, agent, timeout: swarm.resume(agent, timeout=timeout), "ready")
