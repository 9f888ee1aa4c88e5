"""compose.yaml without a container engine: its services as local processes, with exactly the commands it names.

Its volumes and files are folders under one root that stands for `/`, its images are the servers that come with
us, its host names are ports on loopback. What differs from an engine: no isolation, and no process 1.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import yaml

from deploy.embedded.postgres import EmbeddedPostgres
from deploy.node import agents_mark
from deploy.processes import end_strays, find_strays
from swarm.project import Project
from swarm.testing import eventually
from tests.servers import NATS_SERVER, free_port

ROOT = Path(__file__).parents[1]
FILE = ROOT / "compose.yaml"
BIN = Path(sys.executable).parent
OURS = "swarm-runtime:local"

Service = dict[str, Any]


def services(file: Path = FILE) -> dict[str, Service]:
    found: dict[str, Service] = yaml.safe_load(file.read_text())["services"]
    return found


def mounts(service: Service) -> Iterator[tuple[str, str, bool]]:
    """Source, path in the container, and whether it can be written."""
    for volume in service.get("volumes", ()):
        source, target, *options = volume.split(":")
        yield source, target, options != ["ro"]


class Servers(Protocol):
    """What stands for the two images. Addresses are HOST:PORT as our processes reach them."""

    listen: str
    """What NATS is told to listen on."""
    monitor_port: int
    bus: str
    store: str

    async def start_nats(self, service: Service, root: Path) -> None: ...

    async def start_postgres(self, service: Service, root: Path) -> None: ...

    async def stop(self) -> None: ...


class LocalServers:
    """The servers that come with us, taking what the images take: command, environment, files."""

    def __init__(self) -> None:
        self.bus = self.listen = f"127.0.0.1:{free_port()}"
        self.monitor_port = free_port()
        self.store = ""
        self._nats: subprocess.Popen[bytes] | None = None
        self._postgres: EmbeddedPostgres | None = None

    async def start_nats(self, service: Service, root: Path) -> None:
        program, *words = service["command"]
        assert program == "nats-server"
        with (root / "nats.log").open("wb") as log:
            self._nats = subprocess.Popen(
                [NATS_SERVER, *(inside(root, word) for word in words)], stdout=log, stderr=log
            )
        check = service["healthcheck"]["test"][-1].replace("8222", str(self.monitor_port))
        await healthy(lambda: _get(check), "NATS is healthy", self._nats)

    async def start_postgres(self, service: Service, root: Path) -> None:
        command, given = service["command"], service["environment"]
        settings = dict(pair.split("=") for flag, pair in zip(command[1::2], command[2::2], strict=True))
        self._postgres = EmbeddedPostgres(root / "postgres", settings=settings)
        await self._postgres.start()
        password = Path(inside(root, given["POSTGRES_PASSWORD_FILE"])).read_text().strip()
        connection = await asyncpg.connect(self._postgres.url)
        try:  # as the image does at its first start
            user, database = given["POSTGRES_USER"], given["POSTGRES_DB"]
            await connection.execute(f"create role {user} superuser login password '{password}'")
            await connection.execute(f"create database {database} owner {user}")
        finally:
            await connection.close()
        self.store = f"127.0.0.1:{self._postgres.port}"

    async def stop(self) -> None:
        if self._postgres is not None:
            await self._postgres.stop()
        if self._nats is not None:
            self._nats.terminate()
            await asyncio.to_thread(self._nats.wait, 10)


class Composed:
    """One start of the file. `root` is an empty folder; `stop` leaves no process."""

    def __init__(self, root: Path, servers: Servers) -> None:
        self.root = root
        self.servers = servers
        self.services = services()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("srv/swarm", "var/lib/swarm"):
            (root / name).mkdir(parents=True)

    @property
    def project(self) -> Project:
        return Project(Path(inside(self.root, "/srv/swarm/swarm.toml")))

    def command(self, name: str, words: list[str]) -> tuple[list[str], dict[str, str]]:
        """What runs in the container of `name`: its words and its environment."""
        service = self.services[name]
        program = {"python": sys.executable, "swarm": str(BIN / "swarm")}[words[0]]
        environment = {"PATH": os.environ["PATH"], "NO_COLOR": "1"}
        for key, value in (service.get("environment") or {}).items():
            environment[key] = self._here(str(value))
        return [program, *map(self._here, words[1:])], environment

    async def start(self) -> None:
        """Every service without a profile, each when what it depends on is as it must be."""
        for service in self.services.values():
            for source, target, _ in mounts(service):
                place = Path(inside(self.root, target))
                if source.startswith("./"):
                    copy(ROOT / source, place)
                elif service.get("image") == OURS:
                    place.mkdir(parents=True, exist_ok=True, mode=0o700)
        started: set[str] = set()
        waiting = {name: each for name, each in self.services.items() if not each.get("profiles")}
        while waiting:
            ready = [name for name, each in waiting.items() if set(each.get("depends_on", ())) <= started]
            assert ready, f"{sorted(waiting)} wait for each other"
            for name in ready:
                await self._start(name, waiting.pop(name))
                started.add(name)

    async def _start(self, name: str, service: Service) -> None:
        if name == "nats":
            await self.servers.start_nats(service, self.root)
        elif name == "postgres":
            await self.servers.start_postgres(service, self.root)
        elif self._must_complete(name):
            done = await self.run(name, service["command"])
            assert done.returncode == 0, f"{name}: {done.stdout}{done.stderr}"
        else:
            words, environment = self.command(name, service["command"])
            with (self.root / f"{name}.log").open("wb") as log:
                self.running[name] = subprocess.Popen(
                    words, env=environment, cwd=self.project.folder, stdout=log, stderr=log
                )
            if "healthcheck" in service:
                await self.healthy(name)

    def _must_complete(self, name: str) -> bool:
        wanted = {
            each["depends_on"][name]["condition"]
            for each in self.services.values()
            if name in each.get("depends_on", ())
        }
        return "service_completed_successfully" in wanted

    async def run(self, name: str, words: list[str]) -> subprocess.CompletedProcess[str]:
        """As `docker compose exec NAME WORDS…`."""
        argv, environment = self.command(name, words)
        return await asyncio.to_thread(
            subprocess.run,
            argv,
            env=environment,
            cwd=self.project.folder,
            capture_output=True,
            text=True,
            timeout=90,
        )

    async def healthy(self, name: str) -> None:
        kind, *words = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        deadline = asyncio.get_running_loop().time() + 60
        while (done := await self.run(name, words)).returncode != 0:
            assert self.running[name].poll() is None, (self.root / f"{name}.log").read_text()
            assert asyncio.get_running_loop().time() < deadline, done.stderr + self.logs()

    def logs(self) -> str:
        return "".join(f"\n== {log.stem}\n{log.read_text()}" for log in sorted(self.root.glob("*.log")))

    async def stop(self) -> dict[str, int]:
        """As `docker compose down`: the last first, each with its grace. Exit codes by service."""
        codes = {}
        for name, process in reversed(self.running.items()):
            grace = float(self.services[name]["stop_grace_period"].removesuffix("s"))
            process.send_signal(signal.SIGTERM)
            try:
                codes[name] = await asyncio.to_thread(process.wait, grace)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        self.running.clear()
        await self.servers.stop()
        return codes

    async def clear(self) -> None:
        """End what a failed test left."""
        await self.stop()
        for mark in (self.project.mark, agents_mark(self.project)):
            await end_strays(mark)

    def left(self) -> list[Any]:
        return [*find_strays(self.project.mark), *find_strays(agents_mark(self.project))]

    def _here(self, word: str) -> str:
        for written, here in (
            ("0.0.0.0:4222", self.servers.listen),
            ("nats:4222", self.servers.bus),
            ("postgres:5432", self.servers.store),
            ("monitor-port=8222", f"monitor-port={self.servers.monitor_port}"),
        ):
            word = word.replace(written, here)
        return inside(self.root, word)


def inside(root: Path, word: str) -> str:
    """`word` with the container's folders replaced by ours."""
    for folder in ("/srv/swarm", "/var/lib/swarm"):
        word = word.replace(folder, f"{root}{folder}")
    return word


def copy(source: Path, target: Path) -> None:
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in [source] if source.is_file() else sorted(source.rglob("*")):
        place = target / path.relative_to(source)
        if path.is_file() and "__pycache__" not in path.parts:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())


async def healthy(condition: Callable[[], bool], what: str, process: subprocess.Popen[bytes]) -> None:
    async def alive_and_well() -> bool:
        assert process.poll() is None, f"{what}: the process ended with {process.returncode}"
        return await asyncio.to_thread(condition)

    await eventually(alive_and_well, seconds=20, what=what)


def _get(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
