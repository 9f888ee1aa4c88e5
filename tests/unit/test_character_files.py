"""Local sources: files, gallery folders, Python, the environment, the store, and what is none of them (A2 to A7)."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from swarm.character import Character, load_character
from swarm.errors import CharacterError, SwarmError, UnknownAgent

JSON = '{"name": "Ada", "bio": ["Counts.", "Computes."], "settings": {"temperature": 0.5, "retries": 3, "on": true}}'
TOML = 'name = "Ada"\nbio = ["Counts.", "Computes."]\n[settings]\ntemperature = 0.5\nretries = 3\non = true\n'
YAML = (
    "name: Ada\nbio:\n  - Counts.\n  - Computes.\nsettings:\n  temperature: 0.5\n  retries: 3\n  on: true\n"
)


async def failure(source: Any, **options: Any) -> str:
    with pytest.raises((SwarmError, UnknownAgent)) as caught:
        await load_character(source, **options)
    return str(caught.value)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", JSON), ("a.toml", TOML), ("a.yaml", YAML), ("A.YML", YAML)]
)
async def test_the_same_character_in_every_format(here: Path, name: str, text: str) -> None:
    Path(name).write_text(text)
    expected = json.loads(JSON)
    for source in (name, Path(name), here / name, f"./{name}"):
        character = await load_character(source)
        assert {key: character.public()[key] for key in expected} == expected


async def test_utf8_with_and_without_a_mark(here: Path) -> None:
    Path("a.json").write_bytes(b"\xef\xbb\xbf" + '{"name": "Zoë ☃", "bio": "x"}'.encode())
    assert (await load_character("a.json")).name == "Zoë ☃"


@pytest.mark.parametrize(
    ("name", "octets", "sentence"),
    [
        ("a.json", b'{\n"name": "A",\n"bio" 1}', "a.json, line 3: Expecting ':' delimiter (column 7)."),
        ("a.json", b"", "a.json, line 1: Expecting value (column 1)."),
        ("a.json", b'{"name":\n "\xff"}', "a.json, line 2: it is not UTF-8 text."),
        ("a.json", b"[1]", "a.json must hold a table of keys, not a list."),
        ("a.json", b"[" * 200_000, "a.json is nested deeper than 32 levels."),
        ("a.toml", b'name = "A"\nbio = \n', "a.toml, line 2: Invalid value (column 7)."),
        ("a.toml", b'name = "A"\nbio = [', "a.toml, line 2: Invalid value (end of file)."),
        ("a.toml", b"a = " + b"[" * 100_000, "a.toml is nested deeper than 32 levels."),
        ("a.yaml", b"name: A\nbio: [x\ntopics: y\n", "a.yaml, line 3: "),
        (
            "a.yaml",
            b"name: A\nbio: !!python/object/apply:os.system [ls]\n",
            "a.yaml, line 2: could not determine",
        ),
        (
            "a.yaml",
            b"name: A\nbio: \x01\n",
            "a.yaml, line 2: it contains a character that YAML does not allow.",
        ),
        ("a.yaml", b"name: A\n---\nname: B\n", "a.yaml, line 2: but found another document."),
        ("a.yaml", b"", "a.yaml must hold a table of keys, not nothing."),
        ("a.yaml", b"name: A\nbio: " + b"[" * 40, "a.yaml, line 2: it is nested deeper than 32 levels."),
        ("a.yaml", b"{a: " * 40, "a.yaml, line 1: it is nested deeper than 32 levels."),
        ("a.json", b'{"a": ' + b"9" * 5000 + b"}", "a.json is not valid JSON: "),
        ("a.toml", b"a = " + b"9" * 5000, "a.toml is not valid TOML: "),
        ("a.yaml", b"a: " + b"9" * 5000, "a.yaml, line 1: it is not valid YAML"),
    ],
)
async def test_a_malformed_file_is_named_with_its_line(
    here: Path, name: str, octets: bytes, sentence: str
) -> None:
    Path(name).write_bytes(octets)
    assert (await failure(name)).startswith(sentence)


async def test_a_yaml_alias_bomb_is_refused_at_its_first_alias(here: Path) -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    Path("a.yaml").write_text("\n".join([*lines, "name: A", "bio: *a11"]))
    assert await failure("a.yaml") == "a.yaml, line 2: the alias *a0 is not allowed; write the value again."


async def test_yaml_reads_words_and_dates_as_the_text_they_are(here: Path) -> None:
    Path("a.yaml").write_text(
        "name: No\nbio: yes\ntopics: [on, 2024-01-01, 12:30, 0123, 1_000, .inf, 'true', '~']\n"
    )
    character = await load_character("a.yaml")
    assert (character.name, character.bio) == ("No", "yes")
    assert character.topics == ["on", "2024-01-01", "12:30", "0123", "1_000", ".inf", "true", "~"]


async def test_a_file_too_large_and_a_file_that_is_none(here: Path) -> None:
    Path("big.json").write_bytes(b" " * 1_000_001)
    assert (
        await failure("big.json")
        == "big.json is larger than 1,000,000 bytes; move knowledge to its own files."
    )
    os.mkfifo("pipe.json")
    assert await failure("pipe.json") == "pipe.json is not an ordinary file."


async def test_a_missing_file_has_near_names(here: Path) -> None:
    (here / "agents/reader").mkdir(parents=True)
    Path("agents/reader/character.json").write_text(JSON)
    assert (
        await failure("agents/reader/charakter.json")
        == "There is no character file agents/reader/charakter.json; did you mean agents/reader/character.json?"
    )
    assert (await failure("agents/raeder/character.json")).endswith("; did you mean agents/reader?")
    assert (
        await failure("agents/raeder")
        == "Unknown character source: agents/raeder; did you mean agents/reader?"
    )
    assert await failure("x.json") == "There is no character file x.json."


# ── gallery folders ───────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("name", "text"),
    [(f"character.{end}", text) for end, text in {"json": JSON, "toml": TOML, "yaml": YAML}.items()],
)
async def test_a_gallery_folder(here: Path, name: str, text: str) -> None:
    Path("ada").mkdir()
    Path("ada", name).write_text(text)
    Path("ada/plugin.py").write_text("raise RuntimeError('only the runtime loads it')")
    assert (await load_character("ada")).name == (await load_character(Path("ada"))).name == "Ada"


async def test_a_folder_with_several_or_no_character_files(here: Path) -> None:
    assert (
        await failure(".")
        == ". has no character file; add one of character.json, character.toml, character.yaml, character.yml."
    )
    Path("character.json").write_text(JSON)
    Path("character.toml").write_text(TOML)
    assert await failure(".") == ". has several character files: character.json and character.toml; keep one."


# ── Python ────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("character = {'name': 'A', 'bio': 'b'}\ndefault = 3", "A"),
        ("default = {'name': 'B', 'bio': 'b'}", "B"),
        ("character = None\ndefault = {'name': 'C', 'bio': 'b'}", "C"),
        (
            "from swarm.character import Character\ncharacter = Character(name='D', bio='b', secrets={'k': 'v'})",
            "D",
        ),
    ],
)
async def test_a_python_file_gives_its_character_or_its_default(here: Path, code: str, name: str) -> None:
    before = set(sys.modules)
    Path("mine.py").write_text(code)
    assert (await load_character("mine.py")).name == name
    assert not Path("__pycache__").exists()
    assert not {
        module for module in set(sys.modules) - before if "mine" in module or "_swarm_character" in module
    }


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("x = 1", "mine.py defines neither character nor default; assign one of them."),
        ("x = 1\ny = 1 +", "mine.py, line 2: invalid syntax."),
        ("def f():\n    return 1 / 0\nf()", "mine.py, line 2: ZeroDivisionError: division by zero."),
        ("import sys\nsys.exit(3)", "mine.py, line 2: SystemExit: 3."),
        ("character = 7", "The character in mine.py must be a dict or a Character, not int."),
        ("character = {'name': ' ', 'bio': 'b'}", "Character validation failed: Character name is required"),
    ],
)
async def test_a_python_file_that_fails_is_named(here: Path, code: str, sentence: str) -> None:
    Path("mine.py").write_text(code)
    assert await failure("mine.py") == sentence


async def test_code_is_not_run_where_it_is_not_allowed(here: Path) -> None:
    Path("mine.py").write_text("open('ran', 'w')")
    assert "is code, which may not be loaded here" in await failure("mine.py", allow_code=False)
    assert not Path("ran").exists()


# ── the environment ───────────────────────────────────────────────────────────────────────────────
async def test_the_environments_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith("AGENT_")]:
        monkeypatch.delenv(variable)
    character = await load_character("env:")
    assert (character.name, character.bio) == ("DefaultAgent", "A helpful assistant")
    assert character.id == "f5bb7b65-fbf0-0ff7-ab79-b51bf69eebe8"
    assert await load_character("env:", environ={"AGENT_NAME": "", "AGENT_BIO": ""}) == character
    monkeypatch.setenv("AGENT_NAME", "Given")
    assert (await load_character("env:")).name == "Given"


async def test_every_field_has_its_variable() -> None:
    document: dict[str, Any] = {
        "id": "b850bc30-45f8-0041-a00a-83df46d8555d", "name": "E", "username": "e", "system": "[s", "bio": ["a", "b"],
        "topics": ["t"], "adjectives": ["a"], "messageExamples": [[{"name": "n", "content": {"text": "t"}}]],
        "postExamples": ["p"], "style": {"all": ["s"], "chat": [], "post": []}, "settings": {"x": 0},
        "secrets": {"K": "v"}, "plugins": ["p"], "knowledge": ["k"], "templates": {"t": "x"}, "lore": ["l"],
        "clients": ["c"], "modelProvider": "m",
    }  # fmt: skip
    from swarm.character.sources.environment import VARIABLES

    assert set(VARIABLES.values()) == set(document)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in document.items()}
    environ = {variable: texts[key] for variable, key in VARIABLES.items()}
    assert (await load_character("env:", environ=environ)).unsealed() == document


async def test_a_variable_that_is_not_json_is_named_and_not_quoted() -> None:
    sentence = await failure("env:", environ={"AGENT_SECRETS": '{"K": "hidden}'})
    assert sentence.startswith("AGENT_SECRETS must be JSON: Unterminated string")
    assert "hidden" not in sentence
    assert (await load_character("env:", environ={"AGENT_BIO": "[sic] a bio"})).bio == "[sic] a bio"


# ── the store ─────────────────────────────────────────────────────────────────────────────────────
class Shelf:
    """The part of a store that holds characters."""

    def __init__(self, *characters: Character) -> None:
        self.documents = {character.id: character.public() for character in characters}

    async def get_character(self, id: str) -> dict[str, Any] | None:
        return self.documents.get(id)


async def test_an_agent_of_the_store_by_id_and_by_name() -> None:
    eliza = Character(name="Eliza", bio="b", secrets={"K": "v"})
    shelf = Shelf(eliza)
    for source in (f"agent:{eliza.id}", "agent:Eliza"):
        loaded = await load_character(source, store=shelf)
        assert loaded.version == eliza.version
        assert loaded.secrets == {}
    assert await failure("agent:Nobody", store=shelf) == "There is no agent 'Nobody'."
    assert "there is none here" in await failure("agent:Eliza")
    assert (await failure("agent:", store=shelf)).startswith("agent: needs an id")


# ── anything else ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "source",
    ["nonsense", "", "ftp://h/a.json", "notes.txt", "env:PREFIX", "file:///a.json", "a\0b.json", "x" * 5000],
)
async def test_an_unknown_source(here: Path, source: str) -> None:
    Path("notes.txt").write_text("hello")
    assert await failure(source) == f"Unknown character source: {source}"


async def test_a_source_of_another_type_is_unknown_and_a_password_in_one_is_not_shown() -> None:
    assert await failure(7) == "Unknown character source: 7"
    assert (
        await failure("ftp://me:hidden@host/a.json?key=hidden")
        == "Unknown character source: ftp://host/a.json"
    )


async def test_a_character_is_a_source() -> None:
    character = Character(name="A", bio="b", secrets={"K": "v"}, settings={"API_KEY": "x"})
    loaded = await load_character(character)
    assert loaded == character
    assert loaded is not character
    assert isinstance(await failure({}), str)
    with pytest.raises(CharacterError):
        await load_character({})
