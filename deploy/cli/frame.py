"""What surrounds every command: its parser, its errors as sentences, its exit code."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from deploy.cli import COMMANDS

if TYPE_CHECKING:
    from swarm.client import Swarm


class UsageMistake(Exception):
    pass


class _Parser(argparse.ArgumentParser):
    """argparse, whose errors are ours to say."""

    def error(self, message: str) -> NoReturn:
        raise UsageMistake(f"{message[:1].upper()}{message[1:].rstrip('.')}; see `{self.prog} --help`.")


def usage() -> int:
    print("usage: swarm COMMAND [OPTIONS]    (swarm COMMAND --help tells more)\n")
    for name, help_text in COMMANDS.items():
        print(f"  {name:<10} {help_text}")
    return 0


def run_command(arguments: list[str]) -> int:
    as_json = "--json" in arguments
    try:
        return _run(arguments)
    except UsageMistake as mistake:
        return say_error(str(mistake), 2, "usage", as_json)
    except SystemExit as end:  # argparse, after --help
        return end.code if isinstance(end.code, int) else 0
    except KeyboardInterrupt:
        return say_error("Interrupted.", 1, "interrupted", as_json)
    except BrokenPipeError:  # a reader such as `head` has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as error:
        return _failed(error, as_json)


def _run(arguments: list[str]) -> int:
    name, rest = arguments[0], arguments[1:]
    if name == "--version":
        from importlib.metadata import version

        print(version("swarm-runtime"))
        return 0
    if name.startswith("-"):
        raise UsageMistake(f"A command comes first, as in `swarm ps {name}`; see `swarm --help`.")
    if name not in COMMANDS:
        from swarm.errors import near

        hint = near(name, COMMANDS)
        raise UsageMistake(
            f"There is no command {name!r}{hint}{'' if '?' in hint else ' See `swarm --help`.'}"
        )
    module = import_module(f"deploy.cli.{name}")
    parser = _Parser(prog=f"swarm {name}", description=COMMANDS[name][:1].upper() + COMMANDS[name][1:] + ".")
    module.add(parser)
    code: int = module.run(parser.parse_args(rest))
    sys.stdout.flush()
    return code


def _failed(error: BaseException, as_json: bool) -> int:
    from bus.errors import BusError
    from swarm.errors import SwarmError, exit_code

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, SwarmError | BusError):
        code = exit_code(error)
        reason = error.reason or type(error).__name__
        return say_error(error.text, code if code <= 5 else 1, reason, as_json)
    if os.environ.get("SWARM_DEBUG") == "1":
        raise error
    return say_error(_keep_traceback(error), 1, "internal", as_json)


def _keep_traceback(error: BaseException) -> str:
    """Put the traceback where the project keeps its logs; the sentence that says so."""
    import traceback

    from swarm.errors import UsageError
    from swarm.project import Project

    what = f"Something went wrong inside swarm ({type(error).__name__}: {error})"
    try:
        project = Project.find()
        project.prepare()
        with project.log_of("command").open("a") as log:
            traceback.print_exception(error, file=log)
    except (UsageError, OSError):
        return f"{what}; run it again with SWARM_DEBUG=1 to see where."
    return f"{what}; the details are in {project.log_of('command')}."


def say_error(text: str, code: int, reason: str, as_json: bool) -> int:
    """One sentence on stderr; with --json also one object on stdout, for whoever reads that."""
    if as_json:
        from deploy.cli.output import put_json

        put_json({"error": {"text": text, "reason": reason, "exit_code": code}})
    print(f"swarm: {text}", file=sys.stderr)
    return code


def add_common(parser: argparse.ArgumentParser) -> None:
    """The options of every command that concerns a project."""
    add_json(parser)
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="swarm.toml or its folder (else: here and upward)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def positive(text: str) -> float:
    """An argparse type: seconds above zero."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to 86400")
    return value


def whole(least: int, most: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `least` to `most`."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return value

    return number


def row_id(text: str) -> str:
    """The id of a message or a task. Raises UsageMistake when it cannot be one."""
    from swarm.ids import is_uuid

    if not is_uuid(text):
        raise UsageMistake(f"{text!r} is not an id; copy the one that was printed when it was accepted.")
    return text.lower()


def with_swarm(args: argparse.Namespace, work: Callable[[Swarm], Coroutine[Any, Any, Any]]) -> Any:
    """Connect to the project's swarm and return what `work(swarm)` does; it awaits only the swarm."""
    from swarm.client import Swarm
    from swarm.project import Project

    return Swarm.once(Project.find(args.file), work)
