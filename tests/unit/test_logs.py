"""Logs: who says what about which message, in two formats, and no secret in either."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from deploy.last_line import last_line
from swarm.redaction import REDACTED, Redaction
from swarm.telemetry import LogFormat, configure_logging
from swarm.testing import agent, say

KEY = "sk-proj-abcdefghijklmnopqrstuvwx"


@pytest.fixture(autouse=True)
def logging_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put back afterwards."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)


@pytest.mark.parametrize("format", ["text", "json"])
def test_no_secret_gets_into_a_line_not_even_by_somebody_elses_error(
    capsys: pytest.CaptureFixture[str], format: LogFormat
) -> None:
    redaction = configure_logging("INFO", "ada/1-x", format)
    redaction.hide(["hunter22", "", None, 7, "abc"])
    redaction.hide_settings({"WEATHER_API_KEY": "w-123456", "city": "Oslo and more"})
    log = logging.getLogger("swarm.test")
    log.info("a password hunter22, a key %s, w-123456 for Oslo and more, abc", KEY)
    try:
        raise ConnectionError("no answer from postgresql://ada:p4ssw0rd@db/x")
    except ConnectionError:
        log.exception("it failed")
    said = capsys.readouterr().err
    for secret in ("hunter22", KEY, "w-123456", "p4ssw0rd"):
        assert secret not in said
    assert said.count(REDACTED) == 5
    assert "Oslo and more, abc" in said  # ordinary words stay


def test_as_json_each_line_is_an_object_that_can_be_searched(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("INFO", "ada/1-x", "json")
    logging.getLogger("swarm.test").warning("two\nlines")
    [line] = capsys.readouterr().err.splitlines()
    said = json.loads(line)
    assert said | {"time": ""} == {
        "time": "", "level": "WARNING", "who": "ada/1-x", "logger": "swarm.test", "text": "two\nlines",
    }  # fmt: skip
    assert said["time"].endswith("Z")


async def test_inside_a_turn_each_line_says_which_run_and_message(capsys: pytest.CaptureFixture[str]) -> None:
    from swarm import Plugin

    plugin = Plugin("speaker")

    @plugin.action(similes=["SPEAK"])
    async def speak() -> str:
        """Speaks."""
        logging.getLogger("plugin").info("here")
        return "said"

    async with agent({"name": "Ada", "bio": "Speaks."}, plugin) as runtime:
        configure_logging("INFO", "ada/1-x", "json")
        result = await say(runtime, "speak")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    [said] = [line for line in lines if line["text"] == "here"]
    assert said["run_id"] == result.run_id and said["message_id"]


@pytest.mark.parametrize(
    "line",
    [
        "2026-01-01T12:00:00.123Z ERROR ada/1-x swarm.agent.process There is no disk.",
        "2026-01-01T12:00:00.123Z ERROR ada/1-x swarm.agent.acting run=1 message=2 There is no disk.",
        '{"time": "x", "level": "ERROR", "text": "There is no disk."}',
        "There is no disk.",
    ],
)
def test_the_last_line_of_a_log_is_what_it_says(tmp_path: Path, line: str) -> None:
    log = tmp_path / "log"
    log.write_text(f"before\n{line}\n\n")
    assert last_line(log) == "There is no disk."
    assert last_line(tmp_path / "none") == ""


def test_what_is_hidden_goes_longest_first() -> None:
    redaction = Redaction()
    redaction.hide(["secret", "secret-and-more"])
    assert redaction("secret-and-more") == REDACTED
