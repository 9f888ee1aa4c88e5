"""The command line's manners: near names, exit codes, JSON, and never a traceback for a user's mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.cli import COMMANDS, main
from deploy.cli.output import cell, put_table
from tests.project_folder import ProjectFolder


@pytest.fixture
def here(tmp_path: Path) -> ProjectFolder:
    return ProjectFolder(tmp_path)


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name, "--help"]) == 0
    assert f"usage: swarm {name}" in capsys.readouterr().out


def test_a_typo_gets_near_names_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["restrat"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and "did you mean restart" in said.err


@pytest.mark.parametrize(
    "words",
    [["ask"], ["ask", "a", "b", "--timeout", "soon"], ["ps", "--colour"], ["-x"], ["task"],
     ["delegate", "a", "b", "--input", "{"]],
)  # fmt: skip
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("swarm: ") and said.err.count("\n") == 1


def test_without_a_project_the_advice_is_init(here: ProjectFolder) -> None:
    done = here.run("ps")
    assert done.returncode == 2 and "swarm init" in done.stderr


@pytest.mark.parametrize(
    "words",
    [["ps"], ["tree"], ["ask", "a", "b"], ["tell", "a", "b"], ["announce", "a"], ["delegate", "a", "b"],
     ["message", "show", "x"], ["inbox", "a"], ["task", "ls"], ["stop", "a"], ["start", "a"], ["restart", "a"],
     ["resume", "a"], ["chat", "a"], ["top"], ["logs"]],
)  # fmt: skip
def test_without_a_swarm_every_command_ends_with_3(
    here: ProjectFolder, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here.folder / "swarm.toml").write_text('[swarm]\nname = "s"\n')
    monkeypatch.chdir(here.folder)
    monkeypatch.delenv("SWARM_PROJECT", raising=False)
    assert main([*words, "--json"]) == 3
    said = capsys.readouterr()
    assert "swarm up" in said.err
    assert json.loads(said.out)["error"]["exit_code"] == 3


def test_init_makes_a_project_whose_own_test_passes(here: ProjectFolder) -> None:
    made = here.json("init", "new project")
    assert "swarm.toml" in made["files"]
    folder = here.folder / "new project"
    assert here.json("config", "validate", "-f", str(folder))["agents"] == ["counter"]
    assert here.json("character", "lint", str(folder / "agents" / "counter"))["findings"] == []
    assert (
        here.json("character", "show", str(folder / "agents" / "counter"))["character"]["name"] == "Counter"
    )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        env=here.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in tests.stdout, tests.stdout


def test_config_login_needs_a_known_agent_and_a_store(here: ProjectFolder) -> None:
    here.swarm("init")
    unknown = here.run("config", "login", "countr")
    assert unknown.returncode == 2 and "did you mean counter" in unknown.stderr
    early = here.run("config", "login", "counter")
    assert early.returncode == 3 and "swarm up" in early.stderr


def test_init_never_overwrites(here: ProjectFolder) -> None:
    here.swarm("init")
    (here.folder / "agents" / "counter" / "plugin.py").write_text("mine")
    done = here.run("init")
    assert done.returncode == 2 and "there already" in done.stderr
    assert (here.folder / "agents" / "counter" / "plugin.py").read_text() == "mine"


def test_a_bad_file_and_a_bad_character_fail_with_1_and_all_errors(here: ProjectFolder) -> None:
    here.swarm("init")
    file = here.folder / "swarm.toml"
    file.write_text(file.read_text() + '\n[agents.twin]\ncharacter = "agents/counter"\nreplica = 2\n')
    done = here.run("config", "validate")
    assert done.returncode == 1 and "did you mean replicas" in done.stderr
    file.write_text(file.read_text().replace("replica = 2", ""))
    done = here.run("config", "validate")
    assert done.returncode == 1 and "have one id" in done.stderr
    (here.folder / "agents" / "counter" / "character.json").write_text('{"name": "x"}')
    assert here.run("character", "lint", "agents/counter").returncode == 1


def test_the_schema_is_json(here: ProjectFolder) -> None:
    assert json.loads(here.swarm("config", "schema"))["title"] == "swarm.toml"


def test_an_internal_error_leaves_its_traceback_in_the_log_and_says_so(
    here: ProjectFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here.folder / "swarm.toml").write_text('[swarm]\nname = "s"\n')
    monkeypatch.chdir(here.folder)
    monkeypatch.delenv("SWARM_PROJECT", raising=False)
    monkeypatch.delenv("SWARM_DEBUG", raising=False)
    monkeypatch.setattr("deploy.cli.ps.with_swarm", lambda *_: 1 / 0)
    assert main(["ps"]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and "command.log" in said
    assert "ZeroDivisionError" in (here.folder / ".swarm" / "logs" / "command.log").read_text()


def test_ps_imports_no_event_loop_and_no_heavy_library() -> None:
    """`swarm ps` is typed often; its start is mostly imports."""
    code = (
        "import sys; import deploy.cli.frame, deploy.cli.ps, swarm.client, bus.oneshot; "
        "print([m for m in ('asyncio', 'pydantic', 'asyncpg', 'nats', 'yaml', 'opentelemetry') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_tables_are_aligned_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    put_table([{"name": "a", "inbox": 5}, {"name": "longer", "inbox": 10}], ("name", "inbox"))
    assert capsys.readouterr().out == "NAME    INBOX\na           5\nlonger     10\n"


def test_a_cell_has_no_control_characters() -> None:
    assert cell("a\x1b[31mb\nc") == "a [31mb c"
    assert cell(None) == "-"


@pytest.mark.parametrize(
    "words",
    [["task", "ls", "--limit", "0"], ["dead", "ls", "--limit", "1001"], ["dead", "requeue", "--limit", "x"],
     ["delegate", "a", "b", "--attempts", "-1"]],
)  # fmt: skip
def test_a_number_out_of_its_bounds_was_answered_with_a_list_of_all_thousand_that_fit(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert len(said) < 200 and "is not a whole number from 1 to 1" in said


def test_waiting_for_a_task_whose_deadline_passed_ends_with_the_code_for_deadlines() -> None:
    from deploy.cli.delegate import code_of

    def code(state: str, error: str | None = None, waited: bool = True) -> int:
        return code_of({"state": state, "error": error}, waited=waited)

    assert code("failed", "its deadline passed") == 4
    assert (code("completed"), code("failed", "no disk"), code("rejected")) == (0, 1, 1)
    assert (code("submitted", waited=False), code("working")) == (0, 4)
    assert (code("input-required", waited=False), code("input-required")) == (0, 1)
