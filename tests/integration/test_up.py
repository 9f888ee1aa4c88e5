"""`swarm up` and what follows, with real processes: start, use, break, mend, edit, stop; nothing stays behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from swarm.testing import eventually_sync
from tests.project_folder import ProjectFolder

pytestmark = pytest.mark.timeout(240)

TALKER = {"name": "Talker", "bio": "Only a character: talks and nothing else."}


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ProjectFolder]:
    """A fresh `swarm init` in a folder with a space in its name."""
    folder = ProjectFolder(tmp_path / "my swarm")
    folder.folder.mkdir()
    folder.swarm("init")
    add_agent(folder, "talker")
    yield folder
    folder.end()


def add_agent(here: ProjectFolder, name: str, settings: str = "", *, plugin: str = "") -> None:
    agent = here.folder / "agents" / name
    agent.mkdir()
    (agent / "character.json").write_text(json.dumps(TALKER | {"name": name.title()}))
    if plugin:
        (agent / "plugin.py").write_text(plugin)
    with (here.folder / "swarm.toml").open("a") as file:
        file.write(f'\n[agents.{name}]\ncharacter = "agents/{name}"\n{settings}\n')


def answers(here: ProjectFolder, text: str = "Count the words: one two three") -> bool:
    done = here.run("ask", "counter", text, "--timeout", "5")
    return done.returncode == 0 and done.stdout.strip() == "3 words"


def test_a_new_project_comes_up_works_and_goes_down_without_a_trace(here: ProjectFolder) -> None:
    assert here.json("up", "-d")["status"] == "ready"
    rows = here.json("ps")
    assert {(row["name"], row["status"]) for row in rows} == {("counter", "ready"), ("talker", "ready")}
    assert {
        "agent_id",
        "instance",
        "node",
        "pid",
        "inbox",
        "in_flight",
        "restarts",
        "rss_mb",
        "version",
    } <= set(rows[0])
    assert here.json("ask", "counter", "Count the words: one two three")["text"] == "3 words"
    receipt = here.json("tell", "counter", "Count the words: a b")
    assert receipt["status"] == "accepted"
    shown = eventually_sync(
        lambda: (
            (m := here.json("message", "show", receipt["id"]))["deliveries"][0]["state"] == "handled" and m
        )
    )
    assert shown["from"] == "operator" and shown["deliveries"][0]["to"] == "counter"
    report = here.json("announce", "news for all", "--wait", "20")
    assert (report["recipients"], report["handled"], report["pending"]) == (2, 2, [])
    task = here.json("delegate", "counter", "Count the words: a b c d", "--wait")
    assert task["state"] == "completed" and task["result"]["text"] == "4 words"
    assert here.json("task", "show", task["id"])["child"] == "counter"
    here.swarm("task", "show", "01a2", code=2)
    assert {node["name"] for node in here.json("tree")} == {"counter", "talker"}
    assert "is ready" in here.swarm("logs", "supervisor")
    supervisor = here.child("supervisor")
    assert here.json("down") == {"stopped": True, "ran": True, "left": []}
    assert here.living() == [] and not supervisor.alive()
    here.swarm("ps", code=3)


def test_mail_of_a_stopped_agent_waits_through_the_death_of_all_and_is_handled_once_it_is_started(
    here: ProjectFolder,
) -> None:
    here.swarm("up", "-d")
    here.swarm("stop", "counter")
    here.swarm("ask", "counter", "hello", code=1)
    told = [here.json("tell", "counter", f"Count the words: a {n}")["id"] for n in range(3)]
    assert here.json("inbox", "counter")["waiting"] == 3
    for part in ("coordinator", "nats", "postgres"):
        here.child(part).signal(signal.SIGKILL)
    assert here.json("inbox", "counter")["waiting"] == 3  # at once: commands wait for a bus that comes back
    assert here.json("up", "-d")["stopped"] == ["counter"]  # it was stopped on purpose
    here.swarm("down")
    assert "counter stays stopped" in here.swarm("up", "-d")
    assert here.json("inbox", "counter")["waiting"] == 3
    here.swarm("start", "counter")
    ends = [
        eventually_sync(
            lambda id=id: (d := here.json("message", "show", id)["deliveries"][0])["state"] == "handled" and d
        )
        for id in told
    ]
    assert [end["attempts"] for end in ends] == [1, 1, 1]
    moments = [end["handled_at"] for end in ends]
    assert moments == sorted(moments)


@pytest.mark.parametrize("victim", ["coordinator", "node", "nats", "postgres"])
def test_killing_a_part_mends_itself(here: ProjectFolder, victim: str) -> None:
    here.swarm("up", "-d")
    before = here.child(victim)
    before.signal(signal.SIGKILL)
    eventually_sync(lambda: here.child(victim) != before)
    told = eventually_sync(
        lambda: (done := here.run("tell", "counter", "hello", "--json")).returncode == 0 and done, seconds=60
    )
    id = json.loads(told.stdout)["id"]
    eventually_sync(lambda: answers(here), seconds=60)
    eventually_sync(
        lambda: here.json("message", "show", id)["deliveries"][0]["state"] == "handled", seconds=60
    )
    here.swarm("down")
    assert here.living() == []


def test_an_instance_that_is_killed_comes_back_and_the_others_do_not_notice(here: ProjectFolder) -> None:
    import os

    here.swarm("up", "-d")
    rows = {row["name"]: row for row in here.json("ps")}
    os.kill(rows["counter"]["pid"], signal.SIGKILL)

    def back() -> bool:
        row = next(row for row in here.json("ps") if row["name"] == "counter")
        return bool(
            row["status"] == "ready" and row["pid"] != rows["counter"]["pid"] and row["restarts"] == 1
        )

    eventually_sync(back)
    talker = next(row for row in here.json("ps") if row["name"] == "talker")
    assert (talker["pid"], talker["restarts"]) == (rows["talker"]["pid"], 0)


def test_up_recovers_after_the_supervisor_was_killed(here: ProjectFolder) -> None:
    here.swarm("up", "-d")
    supervisor = here.child("supervisor")
    supervisor.signal(signal.SIGKILL)
    eventually_sync(lambda: not supervisor.alive())
    assert here.json("up", "-d")["status"] == "ready"
    assert here.child("supervisor") != supervisor
    assert answers(here)
    here.swarm("down")
    assert here.living() == []


def test_down_after_the_supervisor_was_killed_leaves_nothing(here: ProjectFolder) -> None:
    here.swarm("up", "-d")
    here.child("supervisor").signal(signal.SIGKILL)
    here.swarm("down")
    assert here.living() == []


def test_ctrl_c_drains_an_attached_swarm(here: ProjectFolder) -> None:
    up = here.start("up")
    try:
        assert up.stdout is not None
        assert "is ready: 2 instances of 2 agents" in up.stdout.readline()
        up.send_signal(signal.SIGINT)
        _, logs = up.communicate(timeout=60)
        assert up.returncode == 0
        assert "coordinator" in logs and "draining" in logs
        assert "Traceback" not in logs
        assert here.living() == []
    finally:
        up.kill()


def test_ctrl_c_during_the_start_leaves_nothing(here: ProjectFolder) -> None:
    up = here.start("up")
    try:
        eventually_sync(lambda: (here.project.home / "postgres").exists())
        up.send_signal(signal.SIGINT)
        _, logs = up.communicate(timeout=60)
        assert "Traceback" not in logs
        assert here.living() == []
    finally:
        up.kill()


def test_a_second_up_converges_on_the_edited_file_and_says_what_changed(here: ProjectFolder) -> None:
    here.swarm("up", "-d")
    assert "nothing has changed" in here.swarm("up", "-d")
    file = here.folder / "swarm.toml"
    file.write_text(file.read_text().replace("# replicas = 2", "replicas = 2"))
    add_agent(here, "newcomer", 'parent = "talker"')
    file.write_text(file.read_text().replace("[agents.talker]", "[agents.talker]\nroles = ['talk']"))
    answer = here.json("up", "-d")
    assert answer["status"] == "ready"
    assert "newcomer is new" in answer["changes"]
    assert "counter: replicas 1 → 2" in answer["changes"]
    ready = [row["name"] for row in here.json("ps") if row["status"] == "ready"]
    assert sorted(ready) == ["counter", "counter", "newcomer", "talker"]
    character = here.folder / "agents" / "talker" / "character.json"
    character.write_text(character.read_text().replace("nothing else", "nothing more"))
    assert here.json("up", "-d")["status"] == "ready"
    file.write_text(file.read_text().split("\n[agents.newcomer]")[0])
    assert any("newcomer is no longer in the file" in change for change in here.json("up")["changes"])
    eventually_sync(lambda: all(row["name"] != "newcomer" for row in here.json("ps")))


def test_two_ups_at_once_make_one_swarm(here: ProjectFolder) -> None:
    both = [here.start("up", "-d", "--json") for _ in range(2)]
    for up in both:
        out, err = up.communicate(timeout=120)
        assert up.returncode == 0, err
        assert json.loads(out)["status"] == "ready"
    assert len(here.json("ps")) == 2


def test_a_crashing_agent_is_named_with_its_reason_and_the_others_run(here: ProjectFolder) -> None:
    add_agent(here, "broken", plugin="raise RuntimeError('its battery is empty')\n")
    done = here.run("up", "-d")
    assert done.returncode == 1
    assert "broken is not ready (quarantined)" in done.stderr
    assert "its battery is empty" in done.stderr
    assert answers(here)


def test_on_failure_rollback_takes_all_down_again(here: ProjectFolder) -> None:
    add_agent(here, "broken", plugin="raise RuntimeError('its battery is empty')\n")
    file = here.folder / "swarm.toml"
    file.write_text(file.read_text().replace("[swarm]", '[swarm]\non_failure = "rollback"', 1))
    done = here.run("up", "-d")
    assert done.returncode == 1 and "its battery is empty" in done.stderr
    eventually_sync(lambda: here.living() == [])


def test_all_errors_are_said_before_anything_starts(here: ProjectFolder) -> None:
    (here.folder / "agents" / "talker" / "character.json").write_text('{"name": " "}')
    (here.folder / "agents" / "counter" / "character.json").write_text("{")
    done = here.run("up", "-d")
    assert done.returncode == 1
    assert "agents.talker" in done.stderr and "agents.counter" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (here.folder / ".swarm" / "nats").exists()
