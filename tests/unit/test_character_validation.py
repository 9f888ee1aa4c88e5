"""Every error at once, a clear sentence each (A8, A9, A13)."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.character import Character, InvalidCharacter, load_character, validate_character

NAME = "Character name is required"
BIO = "Character bio is required"
GOOD: dict[str, Any] = {"name": "A", "bio": "b"}


@pytest.mark.parametrize("document", [{}, {"name": None}, {"name": ""}, {"name": "  \t"}])
async def test_a_name_is_required(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidCharacter) as caught:
        await load_character({"bio": "b", **document})
    assert str(caught.value) == f"Character validation failed: {NAME}"


@pytest.mark.parametrize(
    "document", [{}, {"bio": None}, {"bio": ""}, {"bio": " "}, {"bio": []}, {"bio": ["", " "]}]
)
async def test_a_bio_is_required(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidCharacter) as caught:
        await load_character({"name": "A", **document})
    assert str(caught.value) == f"Character validation failed: {BIO}"


async def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(InvalidCharacter) as caught:
        await load_character({"name": " ", "topics": "x", "settings": 3})
    errors = (
        NAME,
        BIO,
        "topics must be a list of texts, not text",
        "settings must be a table of keys, not a number",
    )
    assert caught.value.errors == errors
    assert str(caught.value) == f"Character validation failed: {', '.join(errors)}"


WRONG = {
    "id": [("not-a-uuid", "id must be a UUID, not 'not-a-uuid' (leave it out to derive it from the name)"),
           (7, "id must be text, not a number")],
    "name": [(7, "name must be text, not a number"), (["A"], "name must be text, not a list")],
    "username": [(7, "username must be text, not a number")],
    "system": [(["x"], "system must be text, not a list")],
    "bio": [(7, "bio must be text or a list of texts, not a number"),
            (["ok", True], "bio[1] must be text, not true or false")],
    "topics": [({"a": 1}, "topics must be a list of texts, not a table of keys"),
               (["ok", 3], "topics[1] must be text, not a number")],
    "adjectives": [([None], "adjectives[0] must be text, not nothing")],
    "messageExamples": [
        ("x", "messageExamples must be a list of conversations, not text"),
        ([7], "messageExamples[0] must be a list of messages or {examples: [messages]}, not a number"),
        ([{"examples": 7}],
         "messageExamples[0] must be a list of messages or {examples: [messages]}, not a table of keys"),
        ([["hi"]], "messageExamples[0][0] must be a message with name and content, not text"),
        ([[{"content": "x"}]], "messageExamples[0][0] must say who speaks (name, or user in older files)"),
        ([[{"name": "a"}]], "messageExamples[0][0] must have a content"),
        ([[{"name": "a", "content": 7}]],
         "messageExamples[0][0].content must be text or a table of keys, not a number"),
        ([{"examples": [{"name": "a", "content": {"text": 7}}]}],
         "messageExamples[0][0].content.text must be text, not a number"),
    ],
    "postExamples": [([7], "postExamples[0] must be text or a table of keys, not a number")],
    "style": [(["x"], "style must be a table of keys, not a list"),
              ({"all": "x"}, "style.all must be a list of texts, not text"),
              ({"chat": [7]}, "style.chat[0] must be text, not a number")],
    "settings": [("x", "settings must be a table of keys, not text"),
                 ({"secrets": 7}, "settings.secrets must be a table of keys, not a number")],
    "secrets": [(["x"], "secrets must be a table of keys, not a list"),
                ({"a": {}}, "secrets.a must be text, a number or a flag, not a table of keys")],
    "plugins": [("x", "plugins must be a list of names, not text"), ([""], "plugins[0] must not be empty"),
                ([{}], "plugins[0] must be text, not a table of keys")],
    "knowledge": [("x", "knowledge must be a list of texts, not text"),
                  ([7], "knowledge[0] must be text or a table of keys, not a number")],
    "templates": [({"a": 7}, "templates.a must be text, not a number")],
    "lore": [(7, "lore must be a list of texts, not a number")],
    "clients": [("discord", "clients must be a list of names, not text")],
    "modelProvider": [(["openai"], "modelProvider must be text, not a list")],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [(key, value, error) for key, cases in WRONG.items() for value, error in cases],
)
def test_a_wrong_type_is_told_in_a_sentence(key: str, value: object, error: str) -> None:
    checked = validate_character({**GOOD, key: value})
    assert not checked.valid
    assert checked.errors == (error,)


def test_every_known_field_has_a_wrong_type_test() -> None:
    from swarm.character.document import KNOWN_KEYS

    assert set(WRONG) == set(KNOWN_KEYS)


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("custom", "error"),
    [
        (object(), "custom must be something that JSON can hold, not a object"),
        (float("nan"), "custom must be a finite number"),
        ({"a": {1: 2}}, "the key 1 of custom.a must be text, not a number"),
        ("a\0b", "custom contains a NUL character, which no database stores"),
        (["\ud800"], "custom[0] contains half a character (a lone surrogate)"),
        (nested(5000), f"custom{'[0]' * 32} is nested deeper than 32 levels"),
    ],
)
def test_what_json_or_a_database_cannot_hold_is_an_error_beside_the_others(
    custom: object, error: str
) -> None:
    checked = validate_character({"bio": "b", "custom": custom})
    assert checked.errors == (error, NAME)


async def test_keys_that_are_not_text_are_errors() -> None:
    assert validate_character({**GOOD, 1: 2}).errors == ("the key 1 must be text, not a number",)
    with pytest.raises(InvalidCharacter, match="the key 1 must be text"):
        await load_character({**GOOD, 1: 2})  # type: ignore[dict-item]


def test_none_is_not_given() -> None:
    from swarm.character.document import KNOWN_KEYS

    character = Character(**{**dict.fromkeys(KNOWN_KEYS), **GOOD})
    assert character.unsealed() == Character(**GOOD).unsealed()


def test_unknown_plugins_and_keys_are_no_errors() -> None:
    names = [
        "@elizaos/plugin-bootstrap",
        "@elizaos/plugin-sql",
        "@elizaos/plugin-openai",
        "@elizaos/plugin-solana",
        "own",
    ]
    checked = validate_character({**GOOD, "plugins": names, "somethingElse": 1})
    assert checked.valid
    assert checked.warnings == (
        "plugin @elizaos/plugin-solana is an npm package and is ignored here; write what it did as a plugin.py",
    )


async def test_loading_warns_of_an_unknown_plugin(caplog: pytest.LogCaptureFixture) -> None:
    await load_character({**GOOD, "plugins": ["@elizaos/plugin-solana", "@elizaos/plugin-sql"]})
    assert [record.message for record in caplog.records] == [
        "A: plugin @elizaos/plugin-solana is an npm package and is ignored here; write what it did as a plugin.py"
    ]


async def test_an_invalid_file_is_named_on_the_error(tmp_path: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text("{}")
    with pytest.raises(InvalidCharacter) as caught:
        await load_character(path)
    assert caught.value.source == str(path)
    assert str(caught.value) == f"Character validation failed: {NAME}, {BIO}"
