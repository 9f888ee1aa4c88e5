"""A real swarm whose every connection goes through our proxies, over servers that the battery itself keeps."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psutil

from bus.credentials import Authority
from deploy.embedded.nats import EmbeddedNats
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.server import EmbeddedServer
from deploy.kept import keep_server
from swarm.ids import string_to_uuid
from swarm.project import Project
from swarm.stores.postgres import agent_url
from tests.faults.battery.audit import Audit
from tests.faults.battery.cast import FILES, NAME, TOML
from tests.faults.battery.evidence import Recorder
from tests.faults.battery.wire import Wire
from tests.running import Running, write_project
from tests.servers import free_port


class House:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorder = Recorder(folder / "events.jsonl")
        self.project_folder = folder / "swarm"
        self.nats_wire: Wire
        self.postgres_wire: Wire
        self.running: Running
        self.audit: Audit
        self._nats: EmbeddedNats
        self._postgres: EmbeddedPostgres

    def kill_nats(self) -> None:
        _kill(self._nats, signal.SIGKILL)

    def kill_postgres(self) -> None:
        """SIGQUIT to the postmaster: all backends end at once, and the next start recovers from the log."""
        _kill(self._postgres, signal.SIGQUIT)

    def pids(self, name: str) -> list[int]:
        """Of a process that `swarm up` keeps: node, coordinator-1, …"""
        children = self.running.project.require_state().children
        return [process.pid for child, process in sorted(children.items()) if child.startswith(name)]

    def login(self, agent: str) -> str:
        """An agent's own URL of the database, past the proxies."""
        password = self.running.project.agent_password(NAME, agent)
        return agent_url(self._postgres.url, NAME, string_to_uuid(agent), password)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[House]:
        """The swarm is up. Afterwards it is down, and what is left of it is in the record."""
        write_project(self.project_folder, "[swarm]\nname = 'x'\n", {})
        project = Project.find(self.project_folder)
        project.prepare()
        authority = Authority.new(NAME)
        authority.save(project.authority_file)
        text = authority.server_config(port=4222)
        self._nats = EmbeddedNats(self.folder / "nats", free_port(), text)
        self._postgres = EmbeddedPostgres(self.folder / "postgres", free_port())
        async with asyncio.TaskGroup() as starts:
            starts.create_task(self._nats.start())
            starts.create_task(self._postgres.start())
        self.nats_wire, self.postgres_wire = Wire(self._nats.port), Wire(self._postgres.port)
        bus = f"nats://127.0.0.1:{await self.nats_wire.open()}"
        store = _at(self._postgres.url, await self.postgres_wire.open())
        write_project(
            self.project_folder,
            TOML.format(bus=bus, store=store),
            {file: text.replace("RECORD", str(self.recorder.file)) for file, text in FILES.items()},
        )
        self.running = Running(self.project_folder)
        self.audit = Audit(self._postgres.url, NAME)
        try:
            async with asyncio.TaskGroup() as keepers:
                kept = [
                    keepers.create_task(keep_server(server, lambda moved: None))
                    for server in (self._nats, self._postgres)
                ]
                try:
                    await self.running.cli("up", "-d", timeout=90)
                    await self.audit.watch()
                    yield self
                finally:
                    await self.running.cli("down", check=None, timeout=60)
                    for left in self.running.left():
                        with contextlib.suppress(psutil.Error):
                            self.recorder.note("left", pid=left.pid, name=psutil.Process(left.pid).name())
                    for task in kept:
                        task.cancel()
        finally:
            await self.nats_wire.close()
            await self.postgres_wire.close()
            await self._nats.stop()
            await self._postgres.stop()


def _kill(server: EmbeddedServer, number: signal.Signals) -> None:
    if server.process is not None:
        server.process.signal(number)


def _at(url: str, port: int) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))
