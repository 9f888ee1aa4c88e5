"""What a store's URL may be, and what is said of one that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from swarm.agent.process import _exit_code, _store
from swarm.agent.spec import AgentSpec
from swarm.errors import ConfigError
from swarm.ids import string_to_uuid
from swarm.stores.opening import open_store
from swarm.stores.postgres import PostgresStore
from swarm.stores.sqlite import SqliteStore
from tests.contract.store_fixtures import memory

ADA = string_to_uuid("ada")


def spec(store_url: str) -> AgentSpec:
    return AgentSpec(
        swarm="test", agent="ada", agent_id=ADA, instance="1-aaaaaa", source="agents/ada", project="",
        bus_url="", bus_jwt="", bus_seed="", store_url=store_url,
    )  # fmt: skip


@pytest.mark.parametrize(
    "form", ["sqlite:./agent.db", "sqlite:agent.db", "sqlite://{}/agent.db", "SQLite:{}/agent.db"]
)
async def test_an_instance_opens_a_file_by_its_url(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = _store(spec(form.format(tmp_path)))
    assert isinstance(store, SqliteStore)
    await store.create_memory(memory("kept"))
    await store.close()
    assert (tmp_path / "agent.db").is_file()


def test_an_instance_opens_a_swarms_database_by_its_url() -> None:
    for scheme in ("postgresql", "postgres"):
        assert isinstance(_store(spec(f"{scheme}://ada:secret@127.0.0.1:1/swarm")), PostgresStore)
    assert _store(spec("")) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite:", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:folder/", "names no file"),
        ("sqlite::memory:", "names no file"),
        ("sqlite://agent.db", "names a host"),
        ("sqlite://host/agent.db", "names a host"),
        ("sqlite:agent.db?mode=ro", "takes none"),
        ("sqllite:./agent.db", "did you mean sqlite"),
        ("postgre://ada:secret@host/db", "did you mean postgres"),
        ("mysql://ada:secret@host/db", "begins with 'mysql'"),
        ("agent.db", "has no scheme"),
    ],
)
def test_a_url_of_no_store_is_told_in_a_sentence_without_its_password(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        open_store(url, swarm="test", agent="ada", agent_id=ADA)
    assert "secret" not in str(caught.value)
    assert _exit_code(caught.value) == 78
