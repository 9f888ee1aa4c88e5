"""Inboxes, dead letters and announcements on the command line of a real swarm."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swarm.testing import eventually_sync
from tests.project_folder import ProjectFolder

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path / "mail")
    folder.folder.mkdir()
    folder.swarm("init")
    agent = folder.folder / "agents" / "talker"
    agent.mkdir()
    (agent / "character.json").write_text(json.dumps({"name": "Talker", "bio": "Talks and nothing else."}))
    with (folder.folder / "swarm.toml").open("a") as file:
        file.write(
            '\n[agents.talker]\ncharacter = "agents/talker"\npermissions = { announce = false }\n'
            'limits = { inbox_messages = 2 }\n\n[groups]\npress = ["talker"]\n'
        )
    yield folder
    folder.end()


def rows(here: ProjectFolder, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in here.swarm(*arguments, "--json").splitlines()]


def test_mail_is_bounded_looked_at_sent_again_and_dropped(here: ProjectFolder) -> None:
    here.swarm("up", "-d")
    here.swarm("stop", "talker")
    late = here.json("tell", "talker", "in time", "--ttl", "3")
    kept = here.json("tell", "talker", "kept")
    refused = here.run("tell", "talker", "too much")
    assert refused.returncode == 5 and "inbox of talker is full: 2 messages wait" in refused.stderr
    inbox = here.json("inbox", "talker")
    assert (inbox["waiting"], inbox["bounds"]["messages"]) == (2, 2) and inbox["bytes"] > 0
    assert [m["id"] for m in inbox["first"]] == [late["id"], kept["id"]]
    [talker] = [row for row in here.json("ps", "-a") if row["name"] == "talker"]
    assert talker["inbox"] == 2

    [letter] = eventually_sync(lambda: rows(here, "dead", "ls", "--agent", "talker"))
    assert (letter["id"], letter["state"], letter["reason"]) == (late["id"], "expired", "its time passed")
    shown = here.json("dead", "show", late["id"])
    assert shown["text"] == "in time" and len(shown["hash"]) == 64 and shown["attempts"] == 0
    here.swarm("start", "talker")
    again = here.json("dead", "requeue", late["id"])
    second = here.run("dead", "requeue", str(letter["delivery"]))
    assert second.returncode == 5 and again["requeued_as"] in second.stderr
    eventually_sync(
        lambda: here.json("message", "show", again["requeued_as"])["deliveries"][0]["state"] == "handled"
    )
    assert rows(here, "dead", "ls") == []
    typo = here.run("dead", "ls", "--agent", "talkr")
    assert typo.returncode == 5 and "did you mean talker" in typo.stderr
    assert [one["status"] for one in rows(here, "dead", "ls", "--all")] == ["requeued"]
    assert here.json("dead", "requeue", "--all") == {"requeued": [], "refused": []}
    here.swarm("dead", "drop", late["id"], code=5)
    here.swarm("dead", "show", "12345678", code=5)
    here.swarm("dead", "requeue", code=2)

    report = here.json("announce", "to the press", "--to", "group:press", "--wait", "20")
    assert (report["recipients"], report["handled"], report["missing"]) == (1, 1, [])
    assert here.json("announce", "--report", report["id"]) == report
    wrong = here.run("announce", "x", "--to", "group:pres")
    assert wrong.returncode == 5 and "did you mean group:press?" in wrong.stderr
    forbidden = here.run("announce", "x", "--as", "talker")
    assert forbidden.returncode == 5 and "talker may not announce" in forbidden.stderr
    here.swarm("stop", "talker")
    report = here.json("announce", "to all")
    assert report["recipients"] == 2
    [missing] = [one for one in report["missing"] if one["name"] == "talker"]
    assert missing["why"] == "it waits in its inbox"
