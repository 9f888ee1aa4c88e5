"""A house for measuring: our servers and a coordinator as processes, agents forked from a warm parent as a node
does it, and a second NATS of the same kind without accounts for the baseline. All in one folder; nothing stays.

Without a node nothing is started again when it dies: a run in which something does is no measurement, and fails.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from bus.bus import Bus
from bus.buses.nats import connect
from bus.credentials import Authority
from bus.errors import BusError
from coordinator.settings import CoordinatorSettings
from deploy.embedded.nats import EmbeddedNats
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.node_settings import PRELOAD
from deploy.processes import ProcessId, end, spawn
from deploy.zygote import Exited, Zygote
from swarm.agent.spec import AgentSpec
from swarm.character import load_character
from swarm.client import Swarm
from swarm.ids import string_to_uuid
from swarm.records import AgentPlan
from swarm.stores.postgres import PostgresLedger, PostgresStore, agent_url

SWARM = "bench"


class House:
    """`agents` maps a name to the text of its plugin. Start some of them with `wake`; `swarm` is an operator's
    client."""

    def __init__(self, folder: Path, agents: Mapping[str, str], *, stores: bool) -> None:
        self.folder = folder
        self._agents = dict(agents)
        self._stores = stores
        self._mark = f"bench-{secrets.token_hex(6)}"
        self._authority = Authority.new(SWARM)
        config = self._authority.server_config(port=4222)
        self.nats = EmbeddedNats(folder / "nats", config_text=config, mark=self._mark)
        self.plain_nats = EmbeddedNats(folder / "plain", mark=self._mark)
        self.postgres = EmbeddedPostgres(folder / "postgres", mark=self._mark)
        self.pids: dict[str, int] = {}
        self.swarm: Swarm
        self.database: asyncpg.Connection[Any]
        self._plans: dict[str, AgentPlan] = {}
        self._zygote: Zygote | None = None
        self._coordinator: subprocess.Popen[bytes] | None = None
        self._ended: list[str] = []

    # ── its life ──────────────────────────────────────────────────────────────────────────────────
    async def start(self, stack: AsyncExitStack) -> None:
        for server in (self.nats, self.plain_nats, self.postgres):
            stack.push_async_callback(server.stop)
        async with asyncio.TaskGroup() as starts:
            for server in (self.nats, self.plain_nats, self.postgres):
                starts.create_task(server.start())
        await self._provision()
        self.database = await asyncpg.connect(self.postgres.url)
        stack.push_async_callback(self.database.close)
        stack.push_async_callback(self._end_processes)
        self._start_coordinator()
        bus = await connect(self.nats.url, self._authority.mint("operator", "operator"))
        stack.push_async_callback(bus.close)
        self.swarm = Swarm(bus, SWARM, asyncio.sleep)
        await self._until_led(bus)

    async def _provision(self) -> None:
        for name, plugin in self._agents.items():
            home = self.folder / "agents" / name
            home.mkdir(parents=True)
            (home / "character.json").write_text(f'{{"name": "{name}", "bio": "Measures."}}')
            (home / "plugin.py").write_text(plugin)
            character = await load_character(str(home))
            self._plans[name] = AgentPlan(
                name=name,
                id=character.id,
                character=character.public(),
                version=character.version,
                source=f"agents/{name}",
            )
        ledger = PostgresLedger(self.postgres.url, SWARM)
        try:
            await ledger.init()
            await ledger.provision(list(self._plans.values()), dict.fromkeys(self._plans, "bench"))
        finally:
            await ledger.close()

    async def register(self, count: int) -> None:
        """So many agents more in the registry, none of which ever runs."""
        extra = [
            AgentPlan(name=name, id=string_to_uuid(name), character={"name": name}, version="1")
            for name in (f"sleeper-{n}" for n in range(count))
        ]
        ledger = PostgresLedger(self.postgres.url, SWARM, deadline=60.0)
        try:
            await ledger.provision([*self._plans.values(), *extra], {})
        finally:
            await ledger.close()
        await self.swarm.converge()

    def store(self, name: str) -> PostgresStore:
        """The store of an agent, as its process has it; close it."""
        id = self._plans[name].id
        return PostgresStore(agent_url(self.postgres.url, SWARM, id, "bench"), SWARM, name, id)

    def _start_coordinator(self) -> None:
        settings = CoordinatorSettings(
            swarm=SWARM,
            bus_url=self.nats.url,
            store_url=self.postgres.url,
            credentials=self._authority.mint("coordinator", "coordinator").to_text(),
        )
        path = self.folder / "coordinator.json"
        path.write_bytes(msgspec.json.encode(settings))
        path.chmod(0o600)
        self._coordinator = spawn(
            [sys.executable, "-m", "coordinator", str(path)],
            log_file=self.folder / "coordinator.log",
            mark=self._mark,
        )
        self.pids["coordinator"] = self._coordinator.pid

    def replace_coordinator(self) -> None:
        """SIGKILL, and another one from the start."""
        assert self._coordinator is not None
        self._coordinator.kill()
        self._coordinator.wait()
        self._start_coordinator()

    async def _until_led(self, bus: Bus) -> None:
        give_up = time.monotonic() + 20
        while True:
            try:
                await self.swarm.ps()
                return
            except BusError:
                if time.monotonic() > give_up:
                    raise RuntimeError("No coordinator answered within 20 s.") from None
                await asyncio.sleep(0.1)

    async def _end_processes(self) -> None:
        if self._zygote is not None:
            await self._zygote.stop(grace=5.0)
        if self._coordinator is not None:
            process = ProcessId.of(self._coordinator.pid)
            if process is not None:
                await end(process, ((15, 5.0), (9, 2.0)))
            self._coordinator.wait()

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    async def wake(self, names: Sequence[str]) -> None:
        """Fork an instance of each, and wait until the coordinator has welcomed all."""
        if self._zygote is None:
            self._zygote = await Zygote.start(
                preload=PRELOAD,
                on_exit=self._gone,
                log_file=self.folder / "zygote.log",
                mark=f"{self._mark}-agents",
            )
        for name in names:
            self.pids[name] = await self._zygote.fork(
                "swarm.agent.process:run",
                msgspec.msgpack.encode(self._spec(name)),
                name=name,
                log_file=self.folder / f"{name}.log",
            )
        give_up = time.monotonic() + 60
        wanted = set(names)
        while wanted - {row["name"] for row in await self.swarm.ps() if row["status"] == "ready"}:
            self.check()
            if time.monotonic() > give_up:
                raise RuntimeError("Not all agents were ready within 60 s.")
            await asyncio.sleep(0.1)

    async def leave(self, name: str) -> None:
        """Let an agent drain and end, and wait until the coordinator knows."""
        os.kill(self.pids.pop(name), signal.SIGTERM)
        give_up = time.monotonic() + 60
        while any(row["name"] == name for row in await self.swarm.ps() if row["instance"]):
            if time.monotonic() > give_up:
                raise RuntimeError(f"{name} did not leave within 60 s.")
            await asyncio.sleep(0.05)

    def check(self) -> None:
        """Raises RuntimeError when an agent has ended."""
        if self._ended:
            said = (self.folder / f"{self._ended[0]}.log").read_text()[-2000:]
            raise RuntimeError(f"Agent {self._ended[0]} ended in the measurement:\n{said}")

    def _gone(self, exited: Exited) -> None:
        if exited.code or exited.signal:
            self._ended.append(exited.name)

    def _spec(self, name: str) -> AgentSpec:
        plan, who = self._plans[name], self._authority.mint("agent", name)
        return AgentSpec(
            swarm=SWARM,
            agent=name,
            agent_id=plan.id,
            instance=f"1-{secrets.token_hex(3)}",
            source=plan.source,
            project=str(self.folder),
            bus_url=self.nats.url,
            bus_jwt=who.jwt,
            bus_seed=who.seed,
            store_url=agent_url(self.postgres.url, SWARM, plan.id, "bench") if self._stores else "",
            version=plan.version,
        )


@asynccontextmanager
async def open_house(folder: Path, agents: Mapping[str, str], *, stores: bool) -> AsyncIterator[House]:
    async with AsyncExitStack() as stack:
        house = House(folder, agents, stores=stores)
        await house.start(stack)
        yield house
        house.check()
