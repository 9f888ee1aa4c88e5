"""Secrets stay out of sight, and settings are found by "is set", not by truth (A14)."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from swarm.character import Character, InvalidCharacter, create_agent
from swarm.character.secrets import names_a_secret, without_secrets
from swarm.settings import SettingLayers

LIVE = "sk-" + "proj" + "A1b2C3d4E5f6G7h8I9"
DOCUMENT: dict[str, Any] = {
    "name": "Keeper",
    "bio": f"Keeps secrets, and one slipped in: {LIVE}!",
    "secrets": {"PIN": "hidden-1"},
    "settings": {
        "OPENAI_API_KEY": "hidden-2",
        "endpoint": "https://user:hidden-3@example.org/x",
        "plain": LIVE,
        "model": "small",
        "maxTokens": 5,
        "PLACEHOLDER_TOKEN": "${TOKEN}",
        "secrets": {"NESTED": "hidden-4"},
        "discord": {"apiToken": "hidden-5", "guild": "g", "secrets": {"x": "hidden-6"}},
        "twitterCookies": ["hidden-7"],
    },
    "twitterPassword": "hidden-8",
    "extra": {"deep": [{"private_key": "hidden-9", "kept": 1}]},
    "topics": ["token", "password"],
}


def shows(text: str) -> list[str]:
    return [secret for secret in [*(f"hidden-{n}" for n in range(1, 10)), LIVE] if secret in text]


def test_no_secret_is_shown_stored_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    character = Character(**DOCUMENT)
    agent = create_agent(character)
    for value in (character, agent):
        logging.getLogger(__name__).warning("%s %r %r %s", value, value, value.settings, value.secrets)
        logging.getLogger(__name__).warning("%r %r", value.setting_layers(), value.settings["secrets"])
        shown = [repr(value), str(value), f"{value}", json.dumps(value.public()), value.model_dump_json()]
        shown += [
            value.model_dump_json(by_alias=True),
            str(value.model_dump()),
            str(value.model_dump(mode="json")),
        ]
        assert [shows(text) for text in shown] == [[]] * len(shown)
    assert shows(caplog.text) == []


def test_what_is_not_secret_stays() -> None:
    public = Character(**DOCUMENT).public()
    assert public["topics"] == ["token", "password"]
    assert public["bio"] == "Keeps secrets, and one slipped in: [redacted]!"
    assert public["extra"] == {"deep": [{"kept": 1}]}
    assert public["settings"] == {
        "model": "small", "maxTokens": 5, "PLACEHOLDER_TOKEN": "${TOKEN}", "discord": {"guild": "g"},
    }  # fmt: skip
    assert "secrets" not in public
    assert without_secrets(public) == public


def test_the_whole_document_has_every_secret_where_it_stood() -> None:
    character = Character(**DOCUMENT)
    whole = character.unsealed()
    assert {key: whole[key] for key in DOCUMENT} == DOCUMENT
    assert Character(**whole).unsealed() == whole


def test_keys_in_settings_are_hoisted_to_secrets_but_do_not_replace_them() -> None:
    given = {
        "settings": {"A_TOKEN": "from settings", "B_TOKEN": "b"},
        "secrets": {"A_TOKEN": "", "B_TOKEN": None},
    }
    character = Character(name="A", bio="b", **given)
    assert dict(character.settings) == {}
    assert dict(character.secrets) == {"A_TOKEN": "", "B_TOKEN": "b"}
    assert character.get_setting("A_TOKEN") == ""
    assert character.unsealed()["settings"] == given["settings"]


def test_an_error_does_not_quote_a_secret() -> None:
    with pytest.raises(InvalidCharacter) as caught:
        Character(
            name="A",
            bio="b",
            secrets={"K": ["hidden-1"]},
            settings={"API_KEY": "hidden-2", "secrets": "hidden-3"},
        )
    assert shows(str(caught.value)) == []


@pytest.mark.parametrize(
    "key", ["OPENAI_API_KEY", "apiKey", "api-key", "APIKey", "twitterPassword", "token", "BOT_TOKEN"]
)
def test_names_that_say_secret(key: str) -> None:
    assert names_a_secret(key)


@pytest.mark.parametrize(
    "key", ["maxTokens", "tokenLimit", "publicKey", "key", "keyboard", "secretary", "", "☃"]
)
def test_names_that_do_not(key: str) -> None:
    assert not names_a_secret(key)


LAYERED = SettingLayers(
    secrets={"a": False, "n": None},
    settings={"a": 1, "b": 0, "secrets": {"b": 2, "c": "", "n": None}},
    runtime={"b": 3, "c": 3, "d": [], "n": None},
    environ={"a": "env", "c": "env", "d": "env", "e": "env", "n": "env"},
)


@pytest.mark.parametrize(
    ("key", "value", "layer"),
    [
        ("a", False, "secrets"),
        ("b", 0, "settings"),
        ("c", "", "settings.secrets"),
        ("d", [], "runtime"),
        ("e", "env", "environment"),
        ("n", "env", "environment"),
        ("missing", "default", None),
        ("secrets", "default", None),
    ],
)
def test_the_nearest_layer_that_is_set_answers_though_it_be_false(
    key: str, value: object, layer: str | None
) -> None:
    assert LAYERED.get(key, "default") == value
    assert LAYERED.where(key) == layer


def test_the_environment_answers_only_if_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONLY_IN_ENVIRONMENT", "x")
    character = Character(name="A", bio="b")
    assert character.get_setting("ONLY_IN_ENVIRONMENT") is None
    assert character.setting_layers(environ={"ONLY": "x"}).get("ONLY") == "x"
    assert character.setting_layers(runtime={"R": 1}, environ={"R": "x"}).get("R") == 1


def test_a_text_made_to_slow_the_search_for_keys_does_not() -> None:
    import time

    text = "-".join(["eyJ" + "a" * 9] * 20_000) + "://" * 20_000 + "sk-" * 20_000
    began = time.perf_counter()
    Character(name="A", bio=text).public()
    assert time.perf_counter() - began < 5
