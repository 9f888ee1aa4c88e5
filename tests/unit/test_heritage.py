"""What a spawned agent inherits (F8, F9): settings, inheritable plugins, secrets by name; how a child is asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.agent_settings import AgentSettings
from swarm.agent.heritage import inherit_settings, inheritable_plugins, read_heritage
from swarm.agent.spec import AgentSpec
from swarm.errors import CharacterError, ConfigError, PluginError, UsageError
from swarm.ids import string_to_uuid
from swarm.protocol import Ancestor
from swarm.records import AgentPermissions, NewChild
from swarm.spawning import agent_name, new_child
from swarm.stores.memory import MemoryDatabase, MemoryStore
from tests.coordinator_house import plan

PLUGIN = 'from swarm import Plugin\nplugin = Plugin("{name}", {fields})\n'


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


# ── settings and plugins ──────────────────────────────────────────────────────────────────────────


def test_f8_settings_merge_shallowly_and_the_child_wins() -> None:
    parent = {"ink": "black", "paper": {"size": 4, "grain": 1}, "off": True}
    child = {"ink": "blue", "paper": {"size": 5}, "off": False}
    assert inherit_settings(parent, child) == {"ink": "blue", "paper": {"size": 5}, "off": False}
    assert parent == {"ink": "black", "paper": {"size": 4, "grain": 1}, "off": True}


def test_f8_inheritable_plugins_come_in_order_with_what_they_need(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "plugin.py": PLUGIN.format(name="own", fields=""),
            "plugins/first/plugin.py": PLUGIN.format(
                name="first", fields="inheritable=True, dependencies=('base',)"
            ),
            "plugins/private/plugin.py": PLUGIN.format(name="private", fields=""),
            "plugins/second/plugin.py": PLUGIN.format(name="second", fields="inheritable=True"),
            "plugins/base/plugin.py": PLUGIN.format(name="base", fields=""),
        },
    )
    names = ["first", "private", "second", "first", "base", "@elizaos/plugin-bootstrap"]
    assert [plugin.name for plugin in inheritable_plugins(tmp_path, names)] == ["first", "second", "base"]
    assert inheritable_plugins(None, []) == []


def test_a_plugin_whose_manifest_keeps_it_back_is_not_even_imported(tmp_path: Path) -> None:
    write(
        tmp_path, {"plugins/odd/plugin.py": "raise RuntimeError", "plugins/odd/plugin.json": {"name": "odd"}}
    )
    assert inheritable_plugins(tmp_path, ["odd"]) == []
    write(tmp_path, {"plugins/odd/plugin.json": {"name": "odd", "inheritable": True}})
    with pytest.raises(PluginError, match="does not load"):
        inheritable_plugins(tmp_path, ["odd"])


# ── the whole line ────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def store(tmp_path: Path) -> MemoryStore:
    """boss (in the file) spawned helper, which spawned page."""
    database = MemoryDatabase()
    ledger = database.ledger()
    boss = {"name": "boss", "bio": "b", "settings": {"ink": "black", "paper": "white"}, "plugins": ["tools"]}
    write(
        tmp_path,
        {
            "agents/boss/character.json": boss | {"secrets": {"A": "of-a", "B": "of-b"}},
            "agents/boss/plugins/tools/plugin.py": PLUGIN.format(name="tools", fields="inheritable=True"),
            "agents/page/character.json": {"name": "page", "bio": "p", "secrets": {"C": "of-c"}},
            "agents/page/plugin.py": PLUGIN.format(name="mine", fields=""),
        },
    )
    rights = AgentPermissions(create_children=True)
    await ledger.provision([plan("boss", permissions=rights)], {})
    database.characters[string_to_uuid("boss")]["1"] = boss
    await ledger.take_lease("test", 60)
    for parent, name, settings in (("boss", "helper", {"ink": "blue"}), ("helper", "page", {"pen": "thin"})):
        document = {"name": name, "bio": name, "settings": settings, "id": string_to_uuid(name)}
        new = NewChild(
            name=name,
            id=string_to_uuid(name),
            character=document,
            version="1",
            permissions={"create_children": True},
        )
        await ledger.spawn(parent, new)
    return database.store("page")


def spec(project: Path, helper: tuple[str, ...], page: tuple[str, ...]) -> AgentSpec:
    return AgentSpec(
        swarm="s",
        agent="page",
        agent_id=string_to_uuid("page"),
        instance="1-x",
        source="agents/page",
        project=str(project),
        bus_url="",
        bus_jwt="",
        bus_seed="",
        store_url="",
        secrets=page,
        heritage=(
            Ancestor("boss", string_to_uuid("boss"), "agents/boss"),
            Ancestor("helper", string_to_uuid("helper"), "", helper),
        ),
    )


async def test_f8_a_grandchild_has_all_generations_settings_and_plugins(
    tmp_path: Path, store: MemoryStore
) -> None:
    character, plugins, folder = await read_heritage(spec(tmp_path, (), ()), store)
    assert (character.name, character.id) == ("page", string_to_uuid("page"))
    assert dict(character.settings) == {"ink": "blue", "paper": "white", "pen": "thin"}
    assert dict(character.secrets) == {"C": "of-c"}
    assert [plugin.name for plugin in plugins] == ["tools"]
    assert folder == tmp_path / "agents/page"


async def test_f8_secrets_are_handed_down_by_name_from_hand_to_hand(
    tmp_path: Path, store: MemoryStore
) -> None:
    character, _, _ = await read_heritage(spec(tmp_path, ("A", "B"), ("A",)), store)
    assert dict(character.secrets) == {"A": "of-a", "C": "of-c"}
    with pytest.raises(ConfigError, match="page was to get the secrets B of its parent"):
        await read_heritage(spec(tmp_path, ("A",), ("B",)), store)


def test_f9_a_child_shares_the_files_settings_but_no_secret_that_was_not_named(tmp_path: Path) -> None:
    file = tmp_path / "swarm.toml"
    file.write_text(
        '[swarm]\nname = "s"\n[settings]\nMODEL_API_KEY = "of all"\n[agents.boss]\ncharacter = "boss"\n'
        'settings = { depth = 3, API_TOKEN = "hidden", OTHER_TOKEN = "hidden" }\n'
    )
    settings = AgentSettings(file)
    assert settings.handed_down("boss", {"API_TOKEN"}) == {
        "MODEL_API_KEY": "of all",
        "depth": 3,
        "API_TOKEN": "hidden",
    }
    assert settings.handed_down("gone", ()) == {"MODEL_API_KEY": "of all"}


async def test_a_folder_that_is_gone_is_said_and_not_taken_for_an_empty_one(
    tmp_path: Path, store: MemoryStore
) -> None:
    (tmp_path / "agents/boss").rename(tmp_path / "agents/moved")
    with pytest.raises(CharacterError, match="boss was made of agents/boss, which is not there any more"):
        await read_heritage(spec(tmp_path, (), ()), store)


# ── asking for a child ────────────────────────────────────────────────────────────────────────────


async def test_a_child_is_made_of_a_folder_in_the_project_and_its_secrets_stay_there(tmp_path: Path) -> None:
    document = {"name": "Apprentice No. 2", "bio": "x", "secrets": {"KEY": "planted"}}
    write(tmp_path, {"agents/two/character.json": document, "agents/two/plugin.py": ""})
    made = await new_child(
        "agents/two", project=tmp_path, permissions={"create_children": True}, secrets=["A", "A"]
    )
    assert (made.name, made.source, made.secrets) == ("apprentice-no-2", "agents/two", ("A",))
    assert made.id == string_to_uuid("Apprentice No. 2") and "planted" not in repr(made)
    assert await new_child("agents/two", project=tmp_path, name="two") != made
    with pytest.raises(UsageError, match="lies outside"):
        write(tmp_path, {"inner/swarm.toml": ""})
        await new_child(tmp_path / "agents/two", project=tmp_path / "inner")


async def test_a_document_with_secrets_is_refused_because_they_would_travel(tmp_path: Path) -> None:
    assert (await new_child({"name": "Two", "bio": "x"}, project=tmp_path)).source == ""
    with pytest.raises(CharacterError, match="KEY") as refused:
        await new_child({"name": "Two", "bio": "x", "secrets": {"KEY": "planted"}}, project=tmp_path)
    assert "planted" not in str(refused.value)


def test_an_agents_name_is_made_of_its_characters() -> None:
    assert agent_name("Ünïcode ☃ Agent") == "n-code-agent"
    with pytest.raises(UsageError, match="give it one"):
        agent_name("☃")
