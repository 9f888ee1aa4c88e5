"""``python -m deploy.demo [--input PATH]``: 0 the job is complete · 1 it is not (and why) · 130 Ctrl-C."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from bus.errors import BusError
from deploy.demo.project import ROOT, DemoFailed, demo_project
from deploy.demo.screen import Screen
from deploy.demo.story import tell_story
from deploy.supervisor import AlreadyRuns, first_cause
from swarm.errors import SwarmError


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make demo", description="A swarm surveys a folder of real files.")
    parser.add_argument(
        "--input", metavar="PATH", help="the folder to survey (else $INPUT, else this repository)"
    )
    parser.add_argument("--state", metavar="DIR", type=Path, help="where its project lives (.swarm/demo)")
    options = parser.parse_args(arguments)
    # `make demo INPUT=…` hands the path down in the environment, where no shell takes it apart.
    given = options.input if options.input is not None else os.environ.get("INPUT", "")
    screen = Screen(sys.stdout)
    try:
        folder = Path(os.path.abspath(given)) if given.strip() else ROOT  # noqa: PTH100 — links stay
        return asyncio.run(_run(folder, options.state, screen))
    except KeyboardInterrupt:  # before or after the time in which the supervisor listens to signals
        screen.fail("interrupted; nothing is left running")
        return 130
    except BaseException as error:
        return _failed(first_cause(error), screen)


def _failed(cause: BaseException, screen: Screen) -> int:
    match cause:
        case BrokenPipeError():  # a reader such as `head` has enough; the swarm is stopped by now
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        case AlreadyRuns():
            screen.fail("Another demo runs in this checkout; wait for its end.")
        case SwarmError() | BusError():
            screen.fail(cause.text)
        case _:
            raise cause
    return 1


async def _run(folder: Path, state: Path | None, screen: Screen) -> int:
    refused = await asyncio.to_thread(refusal, folder)
    if refused:
        raise DemoFailed(refused)
    project = await demo_project(state)
    log_file = project.log_of("supervisor")
    logging.basicConfig(filename=log_file, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return await tell_story(project, folder, screen)


def refusal(folder: Path) -> str:
    """Why this cannot be surveyed, in a sentence, before anything is started; "" when it can. The surveyor
    looks again for itself: it may run for days, and on another machine."""
    name = os.fsencode(folder).decode("utf-8", "backslashreplace")
    try:
        if not folder.exists():
            return f"There is no folder {name}: give one that exists, as in `make demo INPUT=docs`."
        if not folder.is_dir():
            return f"{name} is a file: give the folder that it lies in."
    except (OSError, ValueError) as error:
        return f"{name} cannot be looked at ({error.__class__.__name__}): give another folder."
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"The folder {name} may not be read: its owner does not let you."
    return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
