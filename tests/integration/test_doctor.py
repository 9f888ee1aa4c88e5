"""`swarm doctor`: each thing broken on purpose is named, with its remedy."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from deploy.doctor.finding import Finding
from deploy.doctor.machine import Space, check_disk, check_folder
from deploy.doctor.servers import check_bus, check_store
from swarm.stores.postgres import condition
from swarm.stores.postgres.names import identifier, schema_name
from tests.project_folder import ProjectFolder

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProjectFolder]:
    folder = ProjectFolder(tmp_path_factory.mktemp("examined"))
    folder.swarm("init")
    folder.swarm("up", "-d")
    yield folder
    folder.end()


def faults(here: ProjectFolder, *arguments: str) -> dict[str, str]:
    """Text and remedy of each fault, by its check."""
    done = here.run("doctor", *arguments, "--json")
    found = json.loads(done.stdout)["findings"]
    wrong = {
        each["check"]: each["text"] + " " + each["remedy"] for each in found if each["verdict"] == "fault"
    }
    assert done.returncode == (1 if wrong else 0)
    return wrong


def test_a_swarm_that_is_well_has_no_fault_and_says_what_was_looked_at(here: ProjectFolder) -> None:
    found = here.json("doctor")
    assert found["verdict"] in ("ok", "warning"), found
    assert {each["check"] for each in found["findings"]} >= {
        "file", "disk", "folder", "processes", "bus", "store", "migrations", "clock", "coordinator", "nodes",
        "agents", "instances",
    }  # fmt: skip


def test_h12_an_agent_says_what_it_is_made_of(here: ProjectFolder) -> None:
    said = here.swarm("doctor", "counter")
    for word in (
        "initialized  yes (active)",
        "services     none",
        "COUNT_WORDS",
        "store        answers",
        "memory",
    ):
        assert word in said, said
    one = here.json("doctor", "counter")["diagnosis"]["instances"][0]
    assert one["verdict"] == "healthy" and one["memory_mb"] > 1
    done = here.run("doctor", "conter")
    assert done.returncode == 5 and "did you mean counter" in done.stderr


def test_an_agent_that_is_stopped_in_its_tracks_is_named(here: ProjectFolder) -> None:
    pid = here.json("ps")[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        wrong = faults(here, "counter")
        assert "does not answer" in wrong["counter"] and "swarm restart counter" in wrong["counter"]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_h13_a_plugin_is_tried_in_a_process_of_its_own(here: ProjectFolder) -> None:
    report = here.json("doctor", "--plugin", "counter")["plugin"]
    assert report["loads"] and report["actions"] == ["COUNT_WORDS"]
    broken = here.folder / "agents" / "counter" / "plugins"
    for name, code in {
        "typo": "import nothing_of_that_name",
        "needy": "from swarm import Plugin\nplugin = Plugin('needy', dependencies=['elsewhere'])",
        "leaver": "import os\nos._exit(3)",
    }.items():
        (broken / name).mkdir(parents=True)
        (broken / name / "plugin.py").write_text(code)
    assert "nothing_of_that_name" in faults(here, "--plugin", "typo")["typo"]
    assert "needs elsewhere" in faults(here, "--plugin", "needy")["needy"]
    assert "ended the process" in faults(here, "--plugin", "leaver")["leaver"]
    assert "did you mean counter" in faults(here, "--plugin", "conter")["conter"]


async def test_a_schema_that_is_behind_or_newer_is_a_fault(here: ProjectFolder) -> None:
    project, state = here.project, here.project.require_state()
    url = (project.home / "secrets" / "store_url").read_text().strip()
    connection = await asyncpg.connect(
        url, server_settings={"search_path": identifier(schema_name(state.swarm))}
    )
    last = await connection.fetchrow("select * from schema_migrations order by version desc limit 1")
    assert last is not None
    await connection.execute("delete from schema_migrations where version = $1", last["version"])
    try:
        assert "1 migrations behind" in by_check(await check_store(project, state))["migrations"].text
        await connection.execute(
            "insert into schema_migrations (version, name, checksum) values (999, 'later', '')"
        )
        assert "run the newer program" in by_check(await check_store(project, state))["migrations"].text
    finally:
        await connection.execute("delete from schema_migrations where version = 999")
        await connection.execute("insert into schema_migrations select ($1::schema_migrations).*", last)
        await connection.close()
    assert by_check(await check_store(project, state))["migrations"].verdict == "ok"


async def test_a_clock_that_differs_from_the_databases_is_a_fault(
    here: ProjectFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = condition.examine

    async def ten_minutes_ahead(url: str, swarm: str) -> condition.Condition:
        seen = await real(url, swarm)
        return seen._replace(clock=seen.clock + 600)

    monkeypatch.setattr(condition, "examine", ten_minutes_ahead)
    found = by_check(await check_store(here.project, here.project.require_state()))
    assert found["clock"].verdict == "fault" and "600 s behind" in found["clock"].text


async def test_servers_that_are_down_or_something_else_are_faults(here: ProjectFolder) -> None:
    import msgspec

    state = here.project.require_state()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        port = nobody.getsockname()[1]
        down = await check_bus(
            here.project, msgspec.structs.replace(state, bus_url=f"nats://127.0.0.1:{port}")
        )
        assert down.verdict == "fault" and "cannot be reached" in down.text
        secret = here.project.home / "secrets" / "store_url"
        right = secret.read_text()
        secret.write_text(f"postgresql://postgres:wrong@127.0.0.1:{port}/postgres")
        try:
            [lost] = await check_store(here.project, state)
            assert lost.verdict == "fault" and "cannot be reached" in lost.text
        finally:
            secret.write_text(right)


def test_a_full_disk_and_an_open_folder_are_faults(here: ProjectFolder) -> None:
    full = check_disk(here.project, lambda folder: Space(10**12, 10**8))
    assert full.verdict == "fault" and "Make room" in full.remedy
    assert check_disk(here.project, lambda folder: Space(10**12, 5 * 10**8)).verdict == "warning"
    here.project.home.chmod(0o755)
    try:
        assert check_folder(here.project).remedy.startswith("chmod 700")
    finally:
        here.project.home.chmod(0o700)


def test_without_a_swarm_or_with_a_bad_file_the_remedy_is_said(tmp_path: Path) -> None:
    folder = ProjectFolder(tmp_path)
    folder.swarm("init")
    assert "swarm up" in faults(folder)["processes"]
    file = tmp_path / "swarm.toml"
    file.write_text(file.read_text().replace("[agents.counter]", "[agent.counter]"))
    assert "swarm config validate" in faults(folder)["file"]


def by_check(findings: list[Finding]) -> dict[str, Any]:
    return {each.check: each for each in findings}
