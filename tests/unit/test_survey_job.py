"""The surveyor's job: one task a file, each file once in the report, whatever happens to the tasks."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agents.reader.reading import read
from agents.surveyor.plugin import SurveyFolder, named_folder, survey
from swarm.components import ActionOptions, ActionResult, Message
from swarm.records import Content, Task


class Readers:
    """The peers of a surveyor: readers that read in this process. Tasks live by their key, as in the ledger,
    and finish in the reverse order; `failing` names files whose tasks fail."""

    def __init__(self, failing: Iterable[str] = ()) -> None:
        self.failing = tuple(failing)
        self.tasks: dict[str, Task] = {}
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.percents: list[float] = []

    async def delegate_all(self, child: str, jobs: Iterable[Any], in_flight: int = 8) -> AsyncIterator[Task]:
        for job in reversed(list(jobs)):
            if job.key not in self.tasks:
                self.tasks[job.key] = self._done(child, job)
            yield self.tasks[job.key]

    def _done(self, child: str, job: Any) -> Task:
        job.goal.encode("utf-8")
        path = job.input["path"]
        base = {"id": job.key, "parent": "surveyor", "child": child, "goal": job.goal, "input": job.input}
        if path.endswith(self.failing or ("\0",)):
            return Task(**base, state="failed", attempts=3, error="Its reader died three times with it.")
        data = msgspec.to_builtins(read(path)[0])
        return Task(**base, state="completed", attempts=1, result=Content(data=data))

    async def announce(self, text: str, *, data: dict[str, Any]) -> None:
        msgspec.json.encode(data)
        self.announced.append((text, data))

    async def progress(self, percent: float, note: str) -> None:
        note.encode("utf-8")
        self.percents.append(percent)


async def run(folder: Path | str, report: Path, peers: Readers, **more: Any) -> ActionResult:
    message = Message(
        id="m", sender="operator", room="r", kind="task", content=Content("survey"), task="0123456789abcdef"
    )
    options = ActionOptions(SurveyFolder(str(folder), str(report), **more))
    result = await survey(message, options, SimpleNamespace(peers=peers), None)  # type: ignore[arg-type]
    assert isinstance(result, ActionResult)
    return result


def sections(report: Path) -> list[str]:
    return re.findall(r"^#### (?:`+ ?)(.*?)(?: ?`+)$", report.read_text(), re.M)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "the folder"
    for name, text in {
        "README.md": "# House\n\nThis house holds the offline queue of every agent.\n",
        "src/queue.py": '"""The offline queue of an agent keeps mail in order."""\nclass Queue: ...\n',
        "src/empty.py": "",
        ".git/config": "not for us",
        "node_modules/x.js": "not for us",
        "cache/CACHEDIR.TAG": "Signature",
        "cache/x.txt": "not for us",
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


async def test_each_file_stands_once_in_the_report_in_order(folder: Path, tmp_path: Path) -> None:
    peers, report = Readers(), tmp_path / "out" / "report.md"
    result = await run(folder, report, peers)
    assert result.success
    assert sections(report) == ["README.md", "src/empty.py", "src/queue.py"]
    text = report.read_text()
    assert "This house holds the offline queue of every agent." in text
    assert "| Read | 2 |" in text
    assert "| `src/empty.py` | The file is empty. |" in text
    assert "`cache`" in text
    assert "**offline queue**" in text or "**queue**" in text
    assert (result.data["files"], result.data["read"], result.data["not_read"]) == (3, 2, 1)
    assert peers.announced == [(result.text, result.data)]
    assert peers.percents[-1] == 100
    assert [path.name for path in report.parent.iterdir()] == ["report.md"]


async def test_a_survey_that_runs_again_after_a_crash_gives_no_task_twice(
    folder: Path, tmp_path: Path
) -> None:
    peers, report = Readers(), tmp_path / "report.md"
    await run(folder, report, peers)
    first, tasks = report.read_text(), dict(peers.tasks)
    await run(folder, report, peers)
    assert peers.tasks == tasks
    assert report.read_text() == first


async def test_a_report_inside_the_folder_is_not_surveyed_itself(folder: Path) -> None:
    peers = Readers()
    await run(folder, folder / "survey.md", peers)
    await run(folder, folder / "survey.md", peers)
    assert sections(folder / "survey.md") == ["README.md", "src/empty.py", "src/queue.py"]


async def test_a_failed_task_is_in_the_report_with_its_reason(folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.md"
    result = await run(folder, report, Readers(failing=["queue.py"]))
    assert result.success
    assert "| `src/queue.py` | Not read: Its reader died three times with it. |" in report.read_text()
    assert "`src/queue.py` (3)" in report.read_text()
    assert result.data["again"] == {"src/queue.py": 3}


@pytest.mark.parametrize("kind", ["missing", "file"])
async def test_what_is_no_folder_is_refused_in_a_sentence(folder: Path, tmp_path: Path, kind: str) -> None:
    path = folder / "README.md" if kind == "file" else folder / "nowhere"
    result = await run(path, tmp_path / "report.md", Readers())
    assert not result.success
    assert result.error is not None
    assert ("is not a folder" if kind == "file" else "There is no folder") in result.error
    assert not (tmp_path / "report.md").exists()


async def test_an_empty_folder_makes_a_report_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = await run(tmp_path / "empty", tmp_path / "report.md", Readers())
    assert result.success
    assert "There are no files in this folder" in (tmp_path / "report.md").read_text()


async def test_oddly_named_and_special_files_are_named_and_nothing_hangs(tmp_path: Path) -> None:
    root = tmp_path / "odd"
    root.mkdir()
    raw = os.fsencode(root)
    for name in (
        b"caf\xe9.txt",
        b"new\nline.txt",
        b"`tick`.txt",
        b"pi|pe.txt",
        b"-rf",
        b" ",
        "日本.md".encode(),
    ):
        Path(os.fsdecode(raw + b"/" + name)).write_text("A few words about this file here.\n")
    os.mkfifo(root / "fifo")
    (root / "up").symlink_to("..")
    (root / "passwd").symlink_to("/etc/passwd")
    report = tmp_path / "report.md"
    result = await run(root, report, Readers())
    assert (result.data["files"], result.data["read"]) == (7, 7)
    assert len(sections(report)) == len(set(sections(report))) == 7
    text = report.read_text()
    assert "`caf\\xe9.txt`" in text
    assert "`new\\nline.txt`" in text
    assert "`fifo` | It is a pipe, a socket or a device" in text
    assert "`up` | It is a symbolic link" in text
    assert "root:" not in text


async def test_files_beyond_the_bound_are_counted_in_words(folder: Path, tmp_path: Path) -> None:
    result = await run(folder, tmp_path / "report.md", Readers(), most=2)
    assert result.data["files"] == 2
    assert "The folder has 1 files more than the 2" in (tmp_path / "report.md").read_text()


async def test_a_report_that_cannot_be_written_is_a_failure_with_its_place(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    peers = Readers()
    result = await run(folder, tmp_path / "file" / "report.md", peers)
    assert not result.success
    assert "could not be written" in str(result.error)
    assert peers.announced == []


async def test_what_stands_in_a_file_cannot_become_markup_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "evil.py").write_text(
        '"""This sentence has <script>alert(1)</script> and a [link](http://x) and | pipes in it."""\n'
    )
    await run(tmp_path / "in", tmp_path / "report.md", Readers())
    text = (tmp_path / "report.md").read_text()
    assert "\\<script\\>" in text
    assert "<script>" not in text


@pytest.mark.parametrize(
    ("text", "folder"),
    [("survey: docs/my folder", "docs/my folder"), ("survey the folder src, please", "src"), ("hello", "")],
)
def test_a_folder_named_in_a_sentence(text: str, folder: str) -> None:
    assert named_folder(text) == folder
