"""What others start must be told: keys, nats.conf, a password; settings that coordinator and node can read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bus.credentials import Authority
from deploy.prepare import main, prepare_keys, with_password
from swarm.errors import UsageError
from swarm.project import Project

TOML = '[swarm]\nname = "{}"\n[agents.ada]\ncharacter = "ada.json"\n'


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "swarm.toml").write_text(TOML.format("t"))
    (tmp_path / "ada.json").write_text('{"name": "Ada", "bio": "counts"}')
    return Project(tmp_path / "swarm.toml")


def keys(
    project: Project, swarm: str = "t", listen: str = "0.0.0.0:4222", out: Path | None = None
) -> Authority:
    out = out or project.folder
    return prepare_keys(
        project,
        swarm,
        listen=listen,
        monitor_port=8222,
        nats_conf=out / "nats.conf",
        store_password=out / "password",
    )


def test_a_second_run_keeps_keys_and_password(project: Project) -> None:
    kept = [project.authority_file, project.folder / "password"]
    keys(project)
    before = [file.read_bytes() for file in kept]
    keys(project)
    assert [file.read_bytes() for file in kept] == before and len(before[1]) > 40


def test_nats_conf_may_be_read_by_all_and_holds_no_secret_and_the_rest_is_private(project: Project) -> None:
    keys(project)
    conf = project.folder / "nats.conf"
    assert conf.stat().st_mode & 0o777 == 0o644
    seeds = [word for word in project.authority_file.read_text().split('"') if word.startswith("S")]
    assert len(seeds) > 5 and not any(seed in conf.read_text() for seed in seeds)
    for secret in (project.folder / "password", project.authority_file):
        assert secret.stat().st_mode & 0o777 == 0o600
    assert 'listen: "0.0.0.0:4222"' in conf.read_text() and 'http: "127.0.0.1:8222"' in conf.read_text()


def test_keys_of_another_swarm_are_refused_and_stay(project: Project) -> None:
    keys(project)
    before = project.authority_file.read_bytes()
    with pytest.raises(UsageError, match="belongs to the swarm t, not other"):
        keys(project, "other")
    assert project.authority_file.read_bytes() == before


@pytest.mark.parametrize("listen", ["4222", ":4222", "0.0.0.0", "0.0.0.0:port"])
def test_a_place_to_listen_is_host_and_port(project: Project, listen: str) -> None:
    with pytest.raises(UsageError, match="HOST:PORT"):
        keys(project, listen=listen)


def test_a_folder_that_is_not_there_is_a_sentence(project: Project) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        keys(project, out=project.folder / "nowhere")


def test_a_password_joins_the_url() -> None:
    url = "postgresql://swarm@postgres:5432/swarm?sslmode=require"
    assert with_password(url, "a/b@c") == "postgresql://swarm:a%2Fb%40c@postgres:5432/swarm?sslmode=require"
    assert with_password("postgresql://u:old@h/d", "new") == "postgresql://u:new@h/d"
    with pytest.raises(UsageError, match="no user"):
        with_password("postgresql://postgres:5432/swarm", "x")


def test_a_password_that_others_can_read_is_refused(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    password = project.folder / "password"
    password.write_text("secret")
    password.chmod(0o644)
    words = ["-f", str(project.file), "swarm", "--bus-url=nats://h", "--store-url=postgresql://u@h/d"]
    code = main([*words, f"--store-password={password}", f"--coordinator={project.folder}"])
    assert code == 5 and "chmod 600" in capsys.readouterr().err


def test_a_database_that_does_not_answer_is_waited_for_and_then_said(project: Project) -> None:
    words = ["-f", str(project.file), "swarm", "--bus-url=nats://127.0.0.1:1", "--wait=0.6"]
    url = "--store-url=postgresql://u:very-secret@127.0.0.1:1/d"
    done = subprocess.run(
        [sys.executable, "-m", "deploy.prepare", *words, url, f"--coordinator={project.folder}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 69 and "waiting for the database" in done.stderr
    assert "Traceback" not in done.stderr and "very-secret" not in done.stderr
    assert not (project.folder / "coordinator.json").exists()
