"""Looking after a swarm from the terminal: chat, top, resume, doctor; one swarm of real processes for all of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.project_folder import ENTRY, ProjectFolder

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path_factory.mktemp("operated"))
    folder.swarm("init")
    folder.swarm("up", "-d")
    yield folder
    folder.end()


def typed(here: ProjectFolder, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENTRY, *arguments], cwd=here.folder, env=here.environment, input=text, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_chat_answers_each_line_in_one_room_and_ends_with_its_input(here: ProjectFolder) -> None:
    done = typed(here, "Count the words: a b\n\nCount the words: a b c\n", "chat", "counter")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["counter> 2 words", "counter> 3 words"]
    rows = [
        json.loads(line)
        for line in typed(
            here, "Count the words: a\nCount the words: b\n", "chat", "counter", "--json"
        ).stdout.splitlines()
    ]
    assert [row["text"] for row in rows] == ["1 words", "1 words"]
    assert rows[0]["room"] == rows[1]["room"] != "operator"


def test_chat_with_somebody_unknown_is_refused_before_the_first_line(here: ProjectFolder) -> None:
    done = typed(here, "hello\n", "chat", "conter")
    assert done.returncode == 5 and "did you mean counter" in done.stderr and done.stdout == ""


def test_top_shows_rates_after_its_second_look(here: ProjectFolder) -> None:
    out = here.swarm("top", "--count", "2", "--interval", "0.2")
    assert out.count("NAME") == 2 and "1 ready of 1 instances" in out and "\x1b" not in out
    first, second = map(json.loads, here.swarm("top", "-n", "2", "-i", "0.2", "--json").splitlines())
    assert first["agents"][0]["turns_per_s"] is None
    assert second["agents"][0]["turns_per_s"] >= 0
    assert "deliveries.handled" in second["ledger"] or second["ledger"] == first["ledger"]
    here.swarm("top", "--count", "0", code=2)


def test_resume_leaves_stopped_what_somebody_stopped(here: ProjectFolder) -> None:
    assert here.json("resume", "counter")["ready"] is True
    here.swarm("stop", "counter")
    try:
        done = here.run("resume", "counter")
        assert done.returncode == 5 and "swarm start counter" in done.stderr
    finally:
        here.swarm("start", "counter")
