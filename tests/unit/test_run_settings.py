"""What `swarm run` is asked to do (H1), before anything is started."""

from __future__ import annotations

import pytest

from bus.errors import Failed, NobodyThere, Refused, TooLate
from deploy.alone.agent import name_of
from deploy.alone.reply import refusal_of
from deploy.alone.settings import RunSettings, run_settings
from deploy.cli import main
from swarm.character import Character
from swarm.errors import UsageError


def settings(port: int | None = None, host: str = "127.0.0.1", **environ: str) -> RunSettings:
    return run_settings("agents/ada", host=host, port=port, drain_seconds=25.0, environ=environ)


def test_h1_the_defaults_are_those_that_are_promised() -> None:
    made = settings()
    assert (made.port, made.log_level, made.host) == (3000, "INFO", "127.0.0.1")
    assert (made.store_url, made.token) == ("sqlite:./agent.db", "")
    assert settings(PORT="", LOG_LEVEL="", DATABASE_URL="", HTTP_TOKEN="") == made, "empty counts as absent"


def test_h1_the_environment_is_honoured_and_an_option_goes_before_it() -> None:
    made = settings(
        PORT="4000", LOG_LEVEL="debug", DATABASE_URL="postgresql://h/d", HTTP_TOKEN="t", OPENAI_API_KEY="k"
    )
    assert (made.port, made.log_level, made.store_url) == (4000, "DEBUG", "postgresql://h/d")
    assert dict(made.environment) == {"PORT": "4000", "LOG_LEVEL": "debug", "OPENAI_API_KEY": "k"}
    assert settings(port=5000, PORT="4000").port == 5000


def test_no_secret_of_the_settings_is_shown() -> None:
    shown = repr(
        settings(DATABASE_URL="postgresql://u:hidden-1@h/d", HTTP_TOKEN="hidden-2", OPENAI_API_KEY="hidden-3")
    )
    assert "hidden" not in shown


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"PORT": "http"}, "PORT 'http' is no port"),
        ({"PORT": "-1"}, "PORT '-1' is no port"),
        ({"PORT": "70000"}, "PORT '70000' is no port"),
        ({"LOG_LEVEL": "WARNIG"}, "did you mean WARNING"),
        ({"HTTP_TOKEN": "secret with spaces"}, "HTTP_TOKEN holds"),
        ({"HTTP_TOKEN": "sécret"}, "HTTP_TOKEN holds"),
    ],
)
def test_h1_a_variable_of_no_use_is_one_sentence_that_repeats_no_secret(
    environ: dict[str, str], says: str
) -> None:
    with pytest.raises(UsageError) as caught:
        settings(**environ)
    assert says in caught.value.text and "cret" not in caught.value.text


def test_h1_a_port_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "agents/ada", "--port", "99999"]) == 2
    assert "not a port" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("127.8.8.8", True),
        ("0.0.0.0", False),
        ("h.example", False),
    ],
)
def test_what_is_on_loopback_is_known(host: str, local: bool) -> None:
    assert settings(host=host).on_loopback is local


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NobodyThere("x", reason="draining"), 503),
        (TooLate("x"), 504),
        (Refused("x", reason="busy"), 503),
        (Failed("x", reason="breaker_open"), 503),
        (Refused("x", reason="rejected"), 422),
        (Failed("x", reason="exception"), 500),
    ],
)
def test_h2_each_error_has_its_status_and_what_passes_says_when_to_come_back(
    error: Exception, status: int
) -> None:
    refusal = refusal_of(error)  # type: ignore[arg-type]
    assert refusal.status == status
    assert ("Retry-After" in refusal.headers) == (status == 503)


@pytest.mark.parametrize(
    ("name", "word"),
    [("Smith", "smith"), ("Dr. Ünal  Ko", "dr___nal_ko"), ("all", "all_1"), ("x" * 200, "x" * 60)],
)
def test_a_name_becomes_one_word_for_bus_and_registry(name: str, word: str) -> None:
    assert name_of(Character(name=name, bio="x")) == word
