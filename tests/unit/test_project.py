"""A project on disk: found from below, private to its owner, and honest about what runs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from swarm.errors import NotRunning, UsageError
from swarm.project import Process, Project, RunState


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "my swarm"
    (folder / "agents" / "deep").mkdir(parents=True)
    (folder / "swarm.toml").write_text("")
    return Project.find(folder)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_project_is_found_upward_from_a_folder_in_it(project: Project) -> None:
    assert Project.find(cwd=project.folder / "agents" / "deep", environ={}) == project


def test_a_project_is_named_by_the_environment_or_an_option(project: Project, tmp_path: Path) -> None:
    assert Project.find(cwd=tmp_path, environ={"SWARM_PROJECT": str(project.folder)}) == project
    assert Project.find("my swarm/swarm.toml", cwd=tmp_path, environ={}) == project


def test_no_project_is_a_usage_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="swarm init"):
        Project.find(cwd=tmp_path, environ={})


def test_the_state_folder_is_its_owners_only(project: Project) -> None:
    project.prepare()
    assert mode(project.home) == 0o700
    project.secret("project")
    assert mode(project.home / "secrets" / "project") == 0o600


def test_secrets_are_made_once_and_passwords_derived_from_them(project: Project) -> None:
    project.prepare()
    assert project.secret("database") == project.secret("database")
    first = project.agent_password("survey", "reader")
    assert first == project.agent_password("survey", "reader")
    assert first != project.agent_password("survey", "scribe")


def test_no_state_means_not_running(project: Project) -> None:
    with pytest.raises(NotRunning, match="swarm up"):
        project.require_state()


def test_state_survives_writing_and_a_torn_file_counts_as_none(project: Project) -> None:
    project.prepare()
    state = RunState(
        swarm="s", bus_url="nats://h:1", store_url="postgresql://h/s", supervisor=Process(1, "x")
    )
    project.write_state(state)
    assert project.require_state() == state
    (project.home / "state.json").write_text('{"swarm"')
    assert project.state() is None


def test_two_files_in_one_folder_keep_apart(project: Project) -> None:
    other = project.folder / "other.toml"
    other.write_text("")
    assert Project.find(other).home != project.home
    assert Project.find(other).mark != project.mark
