"""A swarm on servers that somebody else runs: a cluster of three NATS servers, and Postgres by its URL."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.errors import TooLate
from deploy.prepare import authority_of
from swarm.client import Swarm
from swarm.ids import new_id
from swarm.project import Project
from swarm.testing import eventually
from tests.contract.store_fixtures import postgres_server, postgres_url
from tests.running import running_swarm
from tests.servers import NatsServer, free_port

__all__ = ["postgres_server", "postgres_url"]

TOML = """
[swarm]
name = "elsewhere"
[bus]
url = "{bus}"
[store]
url = "{store}"
[agents.ada]
character = "agents/ada.json"
[agents.bob]
character = "agents/bob.json"
"""
FILES = {f"agents/{name}.json": f'{{"name": "{name}", "bio": "Talks."}}' for name in ("ada", "bob")}


class Cluster:
    def __init__(self, folder: Path) -> None:
        self.servers = []
        for number in range(3):
            (folder / f"nats-{number}").mkdir(parents=True)
            self.servers.append(NatsServer(folder / f"nats-{number}"))
        self._routes = [f"127.0.0.1:{free_port()}" for _ in self.servers]

    @property
    def url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def start(self, project: Project, number: int) -> None:
        authority = authority_of(project, "elsewhere")
        others = [route for route in self._routes if route != self._routes[number]]
        self.servers[number].start(
            authority.server_config(
                port=self.servers[number].port, cluster=self._routes[number], routes=others
            )
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    for server in made.servers:
        server.kill()


async def test_a_nats_cluster_of_three_loses_a_server_and_no_message(
    tmp_path: Path, cluster: Cluster, postgres_url: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    project = Project(home / "swarm.toml")
    for number in range(3):
        cluster.start(project, number)
    toml = TOML.format(bus=cluster.url, store=postgres_url)
    async with running_swarm(home, toml, FILES) as running, running.client() as swarm:
        assert "postgres" not in project.require_state().children
        sent = await _tell(swarm, 0)
        cluster.servers[0].kill()  # all clients try the first of the list first
        sent += await _tell(swarm, sent)
        try:
            await eventually(lambda: _all_handled(swarm, sent), seconds=60)
        except AssertionError:
            raise AssertionError(f"{await swarm.stats()}\n{await swarm.inbox('ada')}") from None
        assert (await running.json("ask", "bob", "hello"))["text"]


async def _tell(swarm: Swarm, sent: int) -> int:
    async def tell(n: int) -> None:
        id = new_id()
        while True:
            try:
                await swarm.tell("ada", f"number {n}", room=f"room {n % 3}", id=id)
                return
            except TooLate:  # nobody knows whether it was accepted; the same id again is safe
                continue

    async with asyncio.TaskGroup() as group:
        for n in range(sent, sent + 10):
            group.create_task(tell(n))
    return 10


async def _all_handled(swarm: Swarm, count: int) -> bool:
    ledger = (await swarm.stats())["ledger"]
    assert ledger.get("deliveries.dead", 0) == 0
    return bool(ledger.get("deliveries.handled", 0) == count)
