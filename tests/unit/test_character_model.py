"""A character's defaults (A10), names (A12), real files of three generations (A3), and its public document."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from swarm.character import Character, InvalidCharacter, load_character
from swarm.ids import string_to_uuid

FILES = sorted((Path(__file__).parents[1] / "fixtures/characters").glob("*.json"))
MINIMAL = {"name": "My  Agent", "bio": "Helps."}

DEFAULTS = {
    "id": string_to_uuid("My  Agent"),
    "username": "my_agent",
    "topics": [],
    "adjectives": [],
    "message_examples": [],
    "post_examples": [],
    "style": {"all": [], "chat": [], "post": []},
    "settings": {},
    "secrets": {},
    "plugins": [],
}


@pytest.mark.parametrize(("field", "default"), DEFAULTS.items())
def test_every_default(field: str, default: object) -> None:
    assert getattr(Character(**MINIMAL), field) == default


def test_nothing_else_is_added() -> None:
    assert set(Character(**MINIMAL).unsealed()) == {
        "id", "name", "username", "bio", "topics", "adjectives", "messageExamples", "postExamples", "style",
        "settings", "secrets", "plugins",
    }  # fmt: skip


def test_containers_are_fresh_for_each_character() -> None:
    one, other = Character(**MINIMAL), Character(**MINIMAL)
    for field in ("topics", "adjectives", "message_examples", "post_examples", "plugins"):
        getattr(one, field).append("changed")
    for field in ("style", "settings", "secrets"):
        getattr(one, field)["changed"] = ["x"]
    one.style["all"].append("changed")
    assert {field: getattr(other, field) for field in DEFAULTS} == DEFAULTS


async def test_the_input_is_neither_changed_nor_shared() -> None:
    given: dict[str, Any] = {
        **MINIMAL,
        "style": {"chat": ["brief"]},
        "settings": {"OPENAI_API_KEY": "k", "secrets": {"a": "b"}, "deep": {"list": [1]}},
        "custom": {"list": [1]},
        "username": None,
    }
    before = copy.deepcopy(given)
    character = await load_character(given)
    assert given == before
    given["style"]["chat"].append("later")
    given["settings"]["deep"]["list"].append(2)
    given["custom"]["list"].append(2)
    assert character.style["chat"] == ["brief"]
    assert character.settings["deep"] == {"list": [1]}
    assert character.unsealed()["custom"] == {"list": [1]}
    character.unsealed()["custom"]["list"].append(3)
    assert character.public()["custom"] == {"list": [1]}


def test_a_style_partly_given_keeps_its_parts() -> None:
    style = Character(**MINIMAL, style={"chat": ["brief"], "post": None, "twitter": ["loud"]}).style
    assert style == {"all": [], "chat": ["brief"], "post": [], "twitter": ["loud"]}


@pytest.mark.parametrize(
    ("name", "username"),
    [
        ("My  Agent", "my_agent"),
        ("A\t\nB\u00a0C", "a_b_c"),
        (" X ", "_x_"),
        ("Ünï-☃!", "ünï-☃!"),
        ("Ops", "ops"),
    ],
)
def test_a_username_is_the_name_in_lower_case_with_underscores_for_space(name: str, username: str) -> None:
    assert Character(name=name, bio="x").username == username
    assert Character(name=name, bio="x", username="").username == username
    assert Character(name=name, bio="x", username="Given").username == "Given"


@pytest.mark.parametrize("bio", ["one line", ["one", "two"], ["one", ""], "  padded "])
def test_a_bio_keeps_its_shape(bio: str | list[str]) -> None:
    character = Character(name="A", bio=bio)
    assert character.bio == bio
    assert character.public()["bio"] == bio
    assert all(line.strip() for line in character.bio_lines)


def test_an_id_is_derived_from_the_name_or_kept_in_canonical_spelling() -> None:
    given = "B850BC30-45F8-0041-A00A-83DF46D8555D"
    assert Character(name="Eliza", bio="x").id == given.lower()
    assert Character(name="Other", bio="x", id=given).id == given.lower()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_a_real_file_of_each_generation_loads_unchanged(path: Path) -> None:
    written = json.loads(path.read_text(encoding="utf-8"))
    character = await load_character(str(path))
    document = character.unsealed()
    for key, value in written.items():
        if key == "style":
            assert {part: document[key][part] for part in value} == value
        else:
            assert document[key] == value, key
    again = await load_character(character.public())
    assert again.public() == character.public()
    assert again.version == character.version


def test_there_are_four_real_files() -> None:
    assert [path.stem for path in FILES] == ["v0-eliza", "v0-example", "v1-octy", "v2-eliza-default"]


async def test_examples_of_all_generations_have_one_shape() -> None:
    v0, _, _, v2 = [await load_character(path) for path in FILES]
    assert v0.conversations[0][0][:2] == ("{{user1}}", "hey eliza can you help with me something")
    assert v2.conversations[4][1].text == "anytime."
    example = Character(
        **MINIMAL,
        message_examples=[
            [{"user": "u", "content": {"text": "a", "action": "GO"}}],
            {
                "examples": [
                    {"name": "n", "content": {"text": "b", "actions": ["X", "Y"]}},
                    {"name": "n", "content": "c"},
                ]
            },
        ],
        post_examples=[
            "one",
            {"text": "two"},
            {"post": "three"},
            {"content": {"text": "four"}},
            {"other": 1},
        ],
    )
    assert example.conversations == ((("u", "a", ("GO",)),), (("n", "b", ("X", "Y")), ("n", "c", ())))
    assert example.posts == ("one", "two", "three", "four")
    assert example.public()["messageExamples"][0][0]["user"] == "u"


def test_placeholders_are_filled() -> None:
    text = Character(name=r"E\1", bio="x").fill(
        "{{name}}/{{agentName}} to {{user1}} and {{ user }}", user="Ann"
    )
    assert text == r"E\1/E\1 to Ann and Ann"


def test_unknown_keys_are_kept_even_when_they_look_like_our_own_names() -> None:
    odd = {
        "version": 3,
        "public": [1],
        "copy": {},
        "model_config": None,
        "self": 1,
        "_private": 1,
        "json": "x",
    }
    character = Character.model_validate({**MINIMAL, **odd})
    assert {key: character.public()[key] for key in odd} == odd
    assert len(character.version) == 12


def test_python_names_and_file_names_are_one_key_and_both_at_once_is_an_error() -> None:
    assert Character(**MINIMAL, post_examples=["x"]).public()["postExamples"] == ["x"]
    with pytest.raises(InvalidCharacter, match="postExamples is given twice"):
        Character(**MINIMAL, post_examples=["x"], postExamples=["y"])


def test_the_version_changes_with_the_document_and_with_nothing_else() -> None:
    version = Character(**MINIMAL).version
    assert len(version) == 12
    assert int(version, 16) >= 0
    assert Character(bio="Helps.", name="My  Agent").version == version
    assert Character(**MINIMAL, secrets={"a": "b"}).version == version
    assert Character(**MINIMAL, settings={"OPENAI_API_KEY": "rotated"}).version == version
    assert Character(**MINIMAL, enabled=False, status="active", updatedAt=3).version == version
    assert Character(**MINIMAL, topics=["x"]).version != version
    assert Character(**MINIMAL, settings={"temperature": 0}).version != version


def test_a_character_is_frozen_and_survives_pickle() -> None:
    character = Character(**MINIMAL, settings={"API_KEY": "x"})
    with pytest.raises(ValueError, match="frozen"):
        character.name = "Other"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(character)) == character
    assert pickle.loads(pickle.dumps(character)).unsealed() == character.unsealed()


def test_fault_19_one_name_gives_one_id_and_the_version_tells_two_characters_apart() -> None:
    one, other = Character(name="Twin", bio="first"), Character(name="Twin", bio="second")
    assert one.id == other.id
    assert one.version != other.version
    assert Character(name="Twin", bio="first", secrets={"K": "replica's own"}).version == one.version
