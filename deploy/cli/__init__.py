"""The command line. A table of names; a command's module is imported only when it is the one that was typed.

Each module has `HELP`, `add(parser)` and `run(args) -> int`. Data goes to stdout, everything else to stderr, and
a mistake of the user's is one sentence and an exit code:
0 ok · 1 failed · 2 usage · 3 swarm not running · 4 deadline passed · 5 refused
"""

from __future__ import annotations

import sys
from typing import Final

COMMANDS: Final = {
    "init": "a new project: swarm.toml, an agent, a test",
    "up": "start what swarm.toml names, or converge on it",
    "node": "one more machine for a swarm: invite it, or join",
    "down": "drain and stop all of it",
    "ps": "a row for each instance",
    "tree": "parents and children with their permissions",
    "ask": "one answer from an agent, or one error",
    "tell": "a message that is kept until it is handled",
    "chat": "a conversation with an agent",
    "announce": "a message to everyone, with a report",
    "delegate": "a task for an agent",
    "message": "what became of a message",
    "inbox": "what waits for an agent",
    "dead": "dead letters: what expired or died",
    "task": "the ledger of tasks",
    "spawn": "a child of an agent, made at run time",
    "remove": "take a spawned agent out of the swarm",
    "permit": "give or take rights of a spawned agent",
    "stop": "drain an agent; its mail waits",
    "start": "start a stopped agent",
    "restart": "a fresh process for an agent",
    "scale": "more or fewer replicas of an agent",
    "resume": "let a quarantined agent try again",
    "top": "what runs and what it does, as it changes",
    "run": "one agent alone, over HTTP",
    "logs": "what the processes said",
    "doctor": "what is wrong, and what to do",
    "backup": "a copy of all that is durable",
    "restore": "a swarm made from a copy",
    "character": "check or show a character",
    "config": "check swarm.toml, or print its schema",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns the exit code; never raises for what a user can do wrong."""
    from deploy.cli.frame import run_command, usage

    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return usage()
    return run_command(arguments)
