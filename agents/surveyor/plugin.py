"""What the surveyor does: one task a file for its readers, one report of all, one announcement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import tempfile
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from swarm.components import ActionOptions, ActionResult, Message
from swarm.plugin import Plugin

from .listing import Listing, list_files, refusal
from .naming import from_wire, shown, wire_name, wire_path
from .report import Finding, Survey, bytes_in_words, markdown

if TYPE_CHECKING:
    from swarm import AgentRuntime
    from swarm.records import Task

FILE_SECONDS = 120.0
IN_FLIGHT = 8

plugin = Plugin("surveyor", "Surveys a folder: a task a file for its readers, a report, an announcement.")


class SurveyFolder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`path` is the folder, else the goal names it: ``survey: docs``; `report` is the file to write (default:
    in ``.swarm/reports`` of the project). Relative ones start at the folder of swarm.toml. `most` bounds the
    files; `reader` reads them."""

    path: str = ""
    report: str = ""
    announce: bool = True
    most: int = 2000
    reader: str = "reader"


async def names_a_folder(message: Message) -> bool:
    return bool(message.given.get("path") or named_folder(message.text))


def named_folder(text: str) -> str:
    """The folder that a goal or a sentence names: what follows the colon, or the word ``folder``."""
    found = re.search(r"^\s*survey\s*:\s*(.+)$|\bfolder\s+(\S*[^\s.,;!?])", text, re.I | re.M)
    return (found[1] or found[2]).strip() if found else ""


@plugin.action(
    "SURVEY",
    description="Surveys a folder with its readers, writes a report and announces it to all.",
    similes=["SURVEY_FOLDER", "REPORT_ON_FOLDER", "MAP_FOLDER"],
    examples=["survey the folder docs", "make a survey of the folder src", "report on the folder notes"],
    validate=names_a_folder,
    parameters=SurveyFolder,
    timeout=3600.0,
)
async def survey(
    message: Message, options: ActionOptions, runtime: AgentRuntime, callback: Any = None
) -> ActionResult:
    wanted: SurveyFolder = options.parameters
    wanted = msgspec.structs.replace(wanted, path=wanted.path or named_folder(message.text))
    if not wanted.path:
        return ActionResult(False, error="Which folder? Name it, as in: survey: docs", reason="no_folder")
    root, report = places(wanted, message.task or message.id)
    refused = await asyncio.to_thread(refusal, root)
    if refused:
        return ActionResult(False, error=refused, reason="no_folder")
    listing = await asyncio.to_thread(list_files, root, wanted.most, str(report))
    if callback is not None:
        await callback(f"{len(listing.files)} files to read in {shown(root)}.")
    findings = await _gather(listing, wanted, runtime)
    done = Survey(
        shown(root),
        tuple(findings[name] for name in listing.files),
        tuple((shown(name), why) for name, why in listing.left_out),
        tuple(shown(name) for name in listing.skipped),
        tuple(_notes(listing, wanted.most)),
        wanted.reader,
    )
    try:
        await asyncio.to_thread(write, report, markdown(done))
    except OSError as error:
        failed = f"The report could not be written to {shown(str(report))}: {error.strerror}."
        return ActionResult(False, error=failed, reason="no_report")
    data = _summary(done, report)
    text = f"{_count(done)} The report is {shown(str(report))}"
    if wanted.announce:
        await runtime.peers.announce(text, data=data)
    return ActionResult(True, text=text, data=data)


def places(wanted: SurveyFolder, work: str) -> tuple[str, Path]:
    """The folder and the report as absolute paths. Without a name the report is named after the work, so
    that doing it again writes the same file. Links stay as they are, unlike with resolve()."""
    report = from_wire(wanted.report) or f".swarm/reports/survey-{work[-12:]}.md"
    return os.path.abspath(from_wire(wanted.path)), Path(report).absolute()  # noqa: PTH100


async def _gather(listing: Listing, wanted: SurveyFolder, runtime: AgentRuntime) -> dict[str, Finding]:
    """One task for each file, keyed by its name: a turn that runs again finds the tasks it gave before."""
    from swarm.agent.peers import Job

    jobs = [
        Job(
            key=wire_name(name),
            goal=f"read_file: {shown(name)[:200]}",
            input={"path": wire_path(f"{listing.root}/{name}")},
            deadline=FILE_SECONDS,
        )
        for name in listing.files
    ]
    names = {job.input["path"]: name for job, name in zip(jobs, listing.files, strict=True)}
    findings: dict[str, Finding] = {}
    percent = -1
    given = runtime.peers.delegate_all(wanted.reader, jobs, in_flight=IN_FLIGHT)
    # It is a generator, though its type says less: closing it ends its listening when we leave early.
    async with contextlib.aclosing(cast("AsyncGenerator[Task, None]", given)) as finished:
        async for task in finished:
            name = names[task.input["path"]]
            findings[name] = finding(name, task)
            now = 100 * len(findings) // len(jobs)
            if now != percent:
                percent = now
                await runtime.peers.progress(
                    percent, f"{len(findings)} of {len(jobs)} files; last {shown(name)[:120]}"
                )
    return findings


def finding(name: str, task: Task) -> Finding:
    """What a finished task says about its file, whatever its end."""
    if task.state == "completed" and task.result is not None:
        return Finding(shown(name), task.result.data, attempts=task.attempts)
    why = task.error or f"The task ended as {task.state}, without a reason."
    return Finding(shown(name), failure=f"Not read: {why}", attempts=task.attempts)


def _count(done: Survey) -> str:
    if not done.findings:
        return f"There are no files in {done.folder} to read."
    files = len(done.findings)
    return (
        f"{files:,} file{'s'[: files != 1]} of {done.folder} surveyed: "
        f"{len(done.read):,} read, {len(done.unread):,} not."
    )


def _notes(listing: Listing, most: int) -> Iterator[str]:
    if not listing.files:
        yield "There are no files in this folder to read."
    if listing.beyond:
        yield (
            f"The folder has {listing.beyond:,} files more than the {most:,} that a survey takes; they were "
            "not read. Raise `most`, or survey the folders below it one by one."
        )


def _summary(done: Survey, report: Path) -> dict[str, Any]:
    languages: dict[str, int] = {}
    for one in done.read:
        languages[one.language] = languages.get(one.language, 0) + 1
    top = dict(sorted(languages.items(), key=lambda entry: (-entry[1], entry[0]))[:8])
    return {
        "report": shown(str(report)),
        "folder": done.folder,
        "files": len(done.findings),
        "read": len(done.read),
        "not_read": len(done.unread),
        "size": bytes_in_words(sum(one.size for one in done.findings)),
        "languages": top,
        "again": {one.name: one.attempts for one in done.findings[:5000] if one.attempts > 1},
    }


def write(path: Path, text: str) -> None:
    """All of it or nothing: a reader of the report never sees half of one, nor does a crash leave one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".survey-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 — a report is to be read; mkstemp makes it private
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
