"""swarm.toml: what is right is read whole; what is wrong is said all at once, with what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.config import json_schema, load_config, parse_config
from swarm.errors import ConfigError
from swarm.records import AgentPermissions, HierarchyLimits

SURVEY = """
[swarm]
name = "survey"

[agents.surveyor]
character = "agents/surveyor"
permissions = { create_children = true, control_children = true }

[agents.reader]
character = "agents/reader"
parent = "surveyor"
replicas = 2
balance = "least-loaded"
roles = ["read"]
"""


def errors_of(text: str, **environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, environ=environ)
    return caught.value.text


def test_the_example_of_the_guide_is_read_whole() -> None:
    config = parse_config(SURVEY)
    assert config.swarm.name == "survey"
    assert config.bus.url is None and config.store.url is None
    assert list(config.agents) == ["surveyor", "reader"]
    reader = config.agents["reader"]
    assert (reader.parent, reader.replicas, reader.balance, reader.roles) == (
        "surveyor",
        2,
        "least-loaded",
        ("read",),
    )


def test_permissions_default_to_those_of_a_child() -> None:
    config = parse_config(SURVEY)
    assert config.permissions_of("reader") == AgentPermissions(False, False, True)
    assert config.permissions_of("surveyor") == AgentPermissions(True, True, True)


def test_unknown_keys_are_errors_with_near_names_and_all_at_once() -> None:
    text = (
        SURVEY.replace("parent =", "parnt =").replace("replicas = 2", "replicas = 0") + "\n[stor]\nurl = 1\n"
    )
    said = errors_of(text)
    assert "swarm.toml has 3 errors" in said
    assert "agents.reader.parnt is not a setting; did you mean parent?" in said
    assert "stor is not a setting; did you mean store?" in said
    assert "agents.reader.replicas" in said and "greater than or equal to 1" in said


def test_a_variable_is_filled_in_and_its_default_too() -> None:
    text = SURVEY + '\n[bus]\nurl = "nats://${HOST:-localhost}:${PORT}"\n'
    assert parse_config(text, environ={"PORT": "4222"}).bus.url == "nats://localhost:4222"
    assert parse_config(text, environ={"PORT": "1", "HOST": "nats"}).bus.url == "nats://nats:1"
    assert "bus.url needs the environment variable PORT" in errors_of(text)


@pytest.mark.parametrize("name", ["operator", "all", "role", "node", "node-1", "operator-ann", "coordinator"])
def test_reserved_names_are_refused(name: str) -> None:
    assert "reserved" in errors_of(f'[swarm]\nname = "s"\n[agents.{name}]\ncharacter = "x"\n')


@pytest.mark.parametrize("name", ['"Upper"', '"a.b"', '"has space"', '"-a"', '""', f'"{"a" * 64}"', '"é"'])
def test_names_are_slugs(name: str) -> None:
    assert "lower-case letters" in errors_of(f'[swarm]\nname = "s"\n[agents.{name}]\ncharacter = "x"\n')


def test_a_parent_must_exist() -> None:
    said = errors_of(SURVEY.replace('parent = "surveyor"', 'parent = "surveyer"'))
    assert "there is no agent 'surveyer'; did you mean surveyor?" in said


def test_f16_a_hierarchy_is_as_deep_and_wide_as_its_limits() -> None:
    line = "".join(
        f'[agents.a{n}]\ncharacter = "x"\n' + (f'parent = "a{n - 1}"\n' if n else "") for n in range(4)
    )
    deep = '[swarm]\nname = "s"\n[limits]\ndepth = 2\n' + line
    assert "agents.a3 is 3 generations below its root; limits.depth is 2." in errors_of(deep)
    assert parse_config(deep.replace("depth = 2", "depth = 3")).limits.of_the_hierarchy() == HierarchyLimits(
        3, 100
    )
    wide = '[swarm]\nname = "s"\n[limits]\nchildren = 1\n[agents.a]\ncharacter = "x"\n' + "".join(
        f'[agents.{name}]\ncharacter = "x"\nparent = "a"\n' for name in "bc"
    )
    assert "agents.a has 2 children; limits.children is 1." in errors_of(wide)
    assert "orphans" in errors_of(SURVEY.replace('"agents/surveyor"', '"agents/surveyor"\norphans = "drop"'))


def test_a_circle_of_parents_is_refused() -> None:
    text = SURVEY.replace('"agents/surveyor"', '"agents/surveyor"\nparent = "reader"')
    assert "is a circle" in errors_of(text)


def test_a_child_has_no_right_that_its_parent_lacks() -> None:
    text = SURVEY.replace("permissions = { create_children = true, control_children = true }", "").replace(
        "replicas = 2", "permissions = { create_children = true }"
    )
    assert "its parent surveyor does not have this right" in errors_of(text)


@pytest.mark.parametrize(
    "line", ['balance = "best"', "replicas = 1001", 'roles = "read"', "replicas = true_", 'character = ""']
)
def test_values_out_of_bounds_are_refused(line: str) -> None:
    key = line.split(" ", 1)[0]
    kept = "\n".join(each for each in SURVEY.splitlines() if not each.startswith(key))
    assert errors_of(f"{kept}\n{line}\n")


def test_broken_toml_names_the_line() -> None:
    assert "line 2" in errors_of("[swarm]\nname = \n")


def test_a_file_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="swarm init"):
        load_config(tmp_path / "swarm.toml")


def test_an_error_never_shows_the_password_of_a_url() -> None:
    said = errors_of(SURVEY + '\n[store]\nurl = "mysql://me:hunter2@host/db"\n')
    assert "store.url" in said and "hunter2" not in said


def test_the_schema_knows_every_section() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {
        "swarm", "bus", "store", "node", "limits", "retention", "settings", "agents", "groups",
    }  # fmt: skip
    assert schema["additionalProperties"] is False


def test_an_agents_settings_lie_over_the_swarms_and_are_in_no_repr() -> None:
    config = parse_config(
        SURVEY + '[agents.reader.settings]\nOPENAI_MODEL = "small"\n'
        '[settings]\nOPENAI_MODEL = "large"\nOPENAI_API_KEY = "${KEY:-}"\n',
        environ={"KEY": "hush-hush"},
    )
    assert config.settings_of("reader") == {"OPENAI_MODEL": "small", "OPENAI_API_KEY": "hush-hush"}
    assert config.settings_of("surveyor")["OPENAI_MODEL"] == "large"
    assert "hush-hush" not in repr(config)


def test_retention_is_read_and_impossible_ages_are_all_said() -> None:
    config = parse_config(SURVEY + "\n[retention]\nmessages = 7\nmemories_of = { reader = 90 }\n")
    ages = config.retention.ages()
    assert (ages.messages, ages.dead, ages.memories_of) == (7, 180, {"reader": 90})
    said = errors_of(
        SURVEY + "\n[retention]\nnotices = 0.001\ndead = 3\nmemories_of = { raeder = 90 }\nmesages = 1\n"
    )
    assert "retention.mesages is not a setting; did you mean messages?" in said
    said = errors_of(SURVEY + "\n[retention]\nnotices = 0.001\ndead = 3\nmemories_of = { raeder = 90 }\n")
    assert "retention.notices is less than an hour" in said
    assert "retention.dead is shorter" in said
    assert "there is no agent 'raeder'; did you mean reader?" in said
