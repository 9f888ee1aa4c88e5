"""`make demo`, with real processes: the story to its end, odd folders, Ctrl-C; nothing is left behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from swarm.testing import eventually_sync
from tests.project_folder import ROOT, ProjectFolder

pytestmark = pytest.mark.timeout(240)


class Demo:
    """A demonstration with its state in a temporary folder, so that tests run beside each other."""

    def __init__(self, tmp_path: Path) -> None:
        self.state = tmp_path / "a state" / "demo"
        self.reports = tmp_path / "a state" / "reports"
        self.environment = ProjectFolder(self.state).environment

    def command(self, *arguments: str | Path) -> list[str | Path]:
        return [sys.executable, "-m", "deploy.demo", "--state", self.state, *arguments]

    def run(self, *arguments: str | Path, **environment: str) -> tuple[int, str]:
        """The exit code and all that was printed, which must hold no traceback; nothing may be left."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=ROOT,
            env=self.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stdout, done.stdout
        assert self.nothing_left(), done.stdout
        return done.returncode, done.stdout

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.command(*arguments), cwd=ROOT, env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def nothing_left(self) -> bool:
        return not (self.state / "swarm.toml").exists() or not ProjectFolder(self.state).living()


@pytest.fixture
def demo(tmp_path: Path) -> Demo:
    return Demo(tmp_path)


def sections(report: Path) -> list[str]:
    return [line for line in report.read_text().splitlines() if line.startswith("#### ")]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Enough files that a reader can be killed in the middle of them."""
    folder = tmp_path / "the library"
    for shelf in ("fiction", "science"):
        (folder / shelf).mkdir(parents=True)
        for number in range(150):
            text = f'"""Book {number} tells of the {shelf} of harbours and tides."""\n\nclass Book: ...\n' * 5
            (folder / shelf / f"book{number}.py").write_text(text)
    return folder


def test_a_killed_reader_costs_nothing_and_an_absent_herald_gets_the_news(demo: Demo, library: Path) -> None:
    code, out = demo.run("--input", library)
    assert code == 0, out
    assert re.search(r"surveyor +1 process: \d+ .*may create children", out)
    assert re.search(r"└─ reader +2 processes: \d+, \d+", out)
    assert re.search(r"herald +stopped", out)
    assert re.search(r"kill -9 \d+: reader \S+ dies with \d+ tasks? in hand", out)
    assert re.search(r"the node has started a new reader: pid \d+", out)
    # What it had in hand may all be committed in the moment of its death: then nothing is tried again.
    assert re.search(r"book\d+\.py .* attempt 2", out) or "none took a second attempt" in out
    assert "300 tasks: 300 completed" in out
    assert "each file stands in the report once" in out
    assert "waiting for the herald: 1" in out
    assert re.search(r"herald: surveyor: 300 files of .* surveyed: 300 read, 0 not", out)
    report = demo.reports / "the-library.md"
    assert f"The report: {report}" in out
    assert len(sections(report)) == len(set(sections(report))) == 300


def test_every_odd_file_of_a_folder_ends_in_clear_words(demo: Demo, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    raw = os.fsencode(folder)
    for name in (b"caf\xe9.txt", b"new\nline.txt", b"-rf", b"pi|pe`.txt"):
        Path(os.fsdecode(raw + b"/" + name)).write_text("A few words about this file here.\n")
    (folder / "empty.txt").touch()
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "deep.yaml").write_text("[" * 5000)
    with (folder / "huge.log").open("wb") as huge:
        huge.write(b"This log tells of the harbour and its tides.\n" * 10_000)
        huge.truncate(100_000_000)
    os.mkfifo(folder / "pipe")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "secret.txt").write_text("x")
    (folder / "secret.txt").chmod(0)
    code, out = demo.run("--input", folder)
    assert code == 0, out
    assert "9 files of" in out
    report = (demo.reports / "odd.md").read_text()
    for words in (
        "`empty.txt` | The file is empty.",
        "`image.png` | Not text: PNG image.",
        "`pipe` | It is a pipe, a socket or a device, not a file; it was not opened.",
        "`passwd` | It is a symbolic link, and links are not followed.",
        "It does not parse as YAML",
        "Only its first 192 kB and its last 16 kB were read: it is large.",
        "`caf\\xe9.txt`",
        "`new\\nline.txt`",
    ):
        assert words in report
    if os.geteuid() != 0:  # root may read what others may not
        assert "`secret.txt` | Permission denied" in report


def test_an_empty_folder_has_a_report_that_says_so(demo: Demo, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, out = demo.run(INPUT=str(tmp_path / "empty"))  # as `make demo INPUT=…` hands it down
    assert code == 0, out
    assert "There are no files in" in out
    assert "the job was over before a reader with work in hand could be killed" in out


@pytest.mark.parametrize(("name", "words"), [("missing", "There is no folder"), ("file", "is a file")])
def test_what_is_no_folder_is_said_in_a_sentence_and_nothing_starts(
    demo: Demo, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "file").touch()
    code, out = demo.run("--input", tmp_path / name)
    assert (code, len(out.splitlines())) == (1, 1)
    assert words in out
    assert not demo.state.exists()


def test_a_project_of_somebody_is_not_written_over(demo: Demo, library: Path) -> None:
    demo.state.mkdir(parents=True)
    (demo.state / "swarm.toml").write_text('[swarm]\nname = "precious"\n')
    code, out = demo.run("--input", library)
    assert code == 1
    assert "somebody's project" in out
    assert "precious" in (demo.state / "swarm.toml").read_text()


@pytest.mark.parametrize("moment", ["starting NATS", "operator → surveyor"])
def test_ctrl_c_in_the_middle_leaves_nothing_running(demo: Demo, library: Path, moment: str) -> None:
    with demo.start("--input", library) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if moment in line:
                running.send_signal(signal.SIGINT)
                break
        said += running.stdout.read()
        assert running.wait(60) == 130, said
    assert "Traceback" not in said
    assert "nothing is left running" in said
    assert demo.nothing_left()


def test_a_demo_that_was_killed_leaves_nothing_to_the_next(demo: Demo, library: Path) -> None:
    with demo.start("--input", library) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if "operator → surveyor" in line:
                running.kill()
                break
        running.wait(10)
    eventually_sync(demo.nothing_left)
    code, out = demo.run("--input", library)
    assert code == 0, out
    assert "300 tasks: 300 completed" in out


def test_a_surveyor_killed_in_the_middle_goes_on_with_the_tasks_it_gave(demo: Demo, library: Path) -> None:
    with demo.start("--input", library) as running:
        assert running.stdout is not None
        said, killed = "", False
        for line in running.stdout:
            said += line
            if "✓" in line and not killed:
                surveyor = re.search(r"surveyor +1 process: (\d+)", said)
                assert surveyor is not None
                os.kill(int(surveyor[1]), signal.SIGKILL)
                killed = True
        assert running.wait(60) == 0, said
    assert "300 tasks: 300 completed" in said
    assert len(set(sections(demo.reports / "the-library.md"))) == 300
    assert demo.nothing_left()
