"""`swarm up`: from a swarm file to a running swarm, and back to nothing.

    lock → clear what a dead run left → keys → nats, postgres → registry → coordinator, node → ready … drain

What it starts it keeps running, and what it started ends with it: by draining in order (node, coordinator,
servers), or, if it is killed, by the kernel. ``python -m deploy.supervisor FILE`` is the same, detached.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from bus.credentials import Authority, write_secret
from bus.errors import BusError
from deploy.embedded.nats import EmbeddedNats
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.kept import KeptProcess, keep_server
from deploy.logbounds import bound_logs
from deploy.processes import ProcessId, end, end_strays, processes_in
from deploy.provision import Plan, load_plan, provision
from deploy.readiness import standing_of, wait_ready
from swarm.errors import SwarmError
from swarm.project import Process, Project, RunState, Standing
from swarm.telemetry import configure_logging, telemetry_settings

log = logging.getLogger(__name__)

ALREADY_RUNS: Final = 73
"""Exit code of a supervisor that found another one in charge."""
BOUND_FOR_OTHERS: Final = 10.0


class AlreadyRuns(SwarmError):
    exit_code = ALREADY_RUNS


class Supervisor:
    """One run of one project. `on_ready` gets what is missing (nothing is good) once the start is over."""

    def __init__(self, project: Project, plan: Plan, on_ready: Callable[[list[str]], None]) -> None:
        self._project = project
        self._plan = plan
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._signals = 0
        self._nats: EmbeddedNats | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._coordinators: list[KeptProcess] = []
        self._node: KeptProcess | None = None
        self._bus_url = plan.config.bus.url or ""
        self._store_url = plan.config.store.url or ""
        self._ready = False
        self._report: tuple[str, ...] = ()
        self._standing = Standing()
        self._started_at = int(time.time() * 1000)

    async def run(self) -> int:
        """The exit code. Raises AlreadyRuns, and SwarmError when it cannot start; then nothing is left running."""
        self._project.prepare()
        with hold_lock(self._project):
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, self.stop)
            try:
                return await self._run()
            finally:
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    loop.remove_signal_handler(number)
                await self._clear()

    def stop(self) -> None:
        """The first call drains, the second hurries, the third kills."""
        self._signals += 1
        self._stop.set()
        if self._signals > 1:
            log.warning("hurrying" if self._signals == 2 else "killing")
            for child in (self._node, *self._coordinators):
                if child is not None:
                    child.signal(signal.SIGTERM if self._signals == 2 else signal.SIGKILL)

    # ── start ─────────────────────────────────────────────────────────────────────────────────────
    async def _run(self) -> int:
        await clear_strays(self._project)
        authority = self._keys()
        try:
            await self._unless_stopped(self._start_servers(authority))
            await self._unless_stopped(self._provision())
            await self._start_processes()
            async with asyncio.TaskGroup() as keepers:
                tasks = [keepers.create_task(child.keep()) for child in self._children]
                tasks += [
                    keepers.create_task(keep_server(server, self._restarted))
                    for server in (self._nats, self._postgres)
                    if server is not None
                ]
                tasks.append(keepers.create_task(self._until_ready()))
                tasks.append(keepers.create_task(bound_logs(self._project.logs)))
                await self._stop.wait()
                await self._drain()
                for task in tasks:
                    task.cancel()
        except _Stopped:
            log.info("stopped before the swarm was ready")
        finally:
            await self._stop_servers()
        return 1 if self._report and self._plan.config.swarm.on_failure == "rollback" else 0

    def _keys(self) -> Authority:
        """The authority of this project, made at its first start, and credentials for our own processes."""
        file, swarm = self._project.authority_file, self._plan.config.swarm.name
        authority = Authority.load(file) if file.exists() else None
        if authority is None or authority.swarm != swarm:
            authority = Authority.new(swarm)
            authority.save(file)
        authority.mint("operator", "operator").save(self._project.operator_file)
        authority.mint("coordinator", "coordinator").save(self._secret_file("coordinator.creds"))
        authority.mint("node", "node").save(self._secret_file("node.creds"))
        return authority

    async def _start_servers(self, authority: Authority) -> None:
        mark, config = self._project.mark, self._plan.config
        async with asyncio.TaskGroup() as starts:
            if config.bus.url is None:
                text = authority.server_config(port=4222)
                self._nats = EmbeddedNats(self._project.home / "nats", config_text=text, mark=mark)
                starts.create_task(self._nats.start())
            if config.store.url is None:
                self._postgres = EmbeddedPostgres(self._project.home / "postgres", mark=mark)
                starts.create_task(self._postgres.start())
        self._read_urls()

    def _read_urls(self) -> None:
        if self._nats is not None:
            self._bus_url = self._nats.url
        if self._postgres is not None:
            self._store_url = self._postgres.url
        write_secret(self._secret_file("store_url"), self._store_url)

    async def _provision(self) -> None:
        for change in await provision(self._project, self._plan, self._store_url):
            log.info("%s", change)

    async def _start_processes(self) -> None:
        python = [sys.executable, "-m"]
        count = self._plan.config.swarm.coordinators
        for number in range(1, count + 1):
            name = "coordinator" if count == 1 else f"coordinator-{number}"
            settings = self._secret_file("coordinator.json")
            self._coordinators.append(self._kept(name, [*python, "coordinator", str(settings)]))
        self._node = self._kept("node", [*python, "deploy.node", str(self._secret_file("node.json"))])
        self._write_settings()
        for child in self._children:
            await child.start()

    def _kept(self, name: str, argv: list[str]) -> KeptProcess:
        log_file, mark = self._project.log_of(name), self._project.mark
        return KeptProcess(name, argv, log_file=log_file, mark=mark, on_change=self._write_state)

    def _write_settings(self) -> None:
        """What coordinator and node read at their start; private, because a URL may hold a password."""
        config = self._plan.config
        common = {
            "swarm": config.swarm.name,
            "bus_url": self._bus_url,
            "store_url": self._store_url,
            "log_level": config.swarm.log_level,
            "log_format": config.swarm.log_format,
        }
        coordinator = common | {
            "credentials_file": str(self._secret_file("coordinator.creds")),
            "retention": config.retention.model_dump(),
            "telemetry": telemetry_settings(config.settings),
        }
        node = common | {
            "file": str(self._project.file),
            "store_url": without_user(self._store_url),
            "credentials_file": str(self._secret_file("node.creds")),
            **config.limits.of_instances(),
            **config.node.of_node(),
        }
        write_secret(self._secret_file("coordinator.json"), json.dumps(coordinator))
        write_secret(self._secret_file("node.json"), json.dumps(node))

    def _restarted(self, moved: bool) -> None:
        """A server came back. If it is on another port now, everything that knows the old one starts anew."""
        self._read_urls()
        self._write_settings()
        self._write_state()
        for child in self._children if moved else ():
            child.signal(signal.SIGTERM)

    async def _until_ready(self) -> None:
        from swarm.client import Swarm

        self._write_state()
        try:
            async with Swarm.connect(self._project, wait=30.0) as swarm:
                missing = await wait_ready(swarm, self._project, self._plan.agents)
                self._standing = standing_of(await swarm.ps(), self._plan.agents)
        except (SwarmError, BusError) as error:
            missing = [str(error)]
        if self._stop.is_set():
            return
        self._report = tuple(missing)
        self._ready = True
        self._write_state()
        self._on_ready(missing)
        if missing and self._plan.config.swarm.on_failure == "rollback":
            log.error("not everything became ready, and on_failure is rollback: taking all down")
            self._stop.set()

    # ── end ───────────────────────────────────────────────────────────────────────────────────────
    async def _drain(self) -> None:
        """In order: instances finish what they have while the coordinator and the servers are there."""
        log.info("draining; press Ctrl-C again to hurry")
        drain = self._plan.config.limits.drain_seconds
        if self._node is not None:
            await self._node.stop(
                ((signal.SIGTERM, drain + 10.0), (signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))
            )
        for child in self._coordinators:
            await child.stop(((signal.SIGTERM, BOUND_FOR_OTHERS), (signal.SIGKILL, 5.0)))

    async def _stop_servers(self) -> None:
        for child in self._children:  # only those that a failure left
            await child.stop(((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)))
        for server in (self._nats, self._postgres):
            if server is not None:
                await server.stop()

    async def _clear(self) -> None:
        await clear_strays(self._project)
        self._project.clear_state()

    async def _unless_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Await `work`, but give it up when we are told to stop. Raises _Stopped then."""
        task = asyncio.ensure_future(work)
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
                raise _Stopped
            try:
                task.result()
            except BaseExceptionGroup as group:
                raise first_cause(group) from group
        finally:
            stop.cancel()

    # ── what it says about itself ─────────────────────────────────────────────────────────────────
    @property
    def _children(self) -> list[KeptProcess]:
        return [*self._coordinators, *([self._node] if self._node is not None else [])]

    def _write_state(self) -> None:
        own = ProcessId.of(os.getpid())
        assert own is not None
        running = {child.name: child.process for child in self._children}
        running |= {
            server.name: server.process for server in (self._nats, self._postgres) if server is not None
        }
        self._project.write_state(
            RunState(
                swarm=self._plan.config.swarm.name,
                bus_url=self._bus_url,
                store_url=without_user(self._store_url),
                supervisor=Process(own.pid, own.started),
                children={name: Process(p.pid, p.started) for name, p in running.items() if p is not None},
                ready=self._ready,
                started_at=self._started_at,
                report=self._report,
                standing=self._standing,
            )
        )

    def _secret_file(self, name: str) -> Path:
        return self._project.home / "secrets" / name


class _Stopped(Exception):
    """We were told to stop while starting."""


@contextlib.contextmanager
def hold_lock(project: Project) -> Iterator[None]:
    """Hold the project's lock. Raises AlreadyRuns when another supervisor has it; the kernel frees it."""
    descriptor = os.open(project.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise AlreadyRuns(f"The swarm in {project.folder} runs already.") from None
        yield
    finally:
        os.close(descriptor)


def is_locked(project: Project) -> bool:
    """Whether a supervisor of this project lives."""
    if not project.lock_file.exists():
        return False
    try:
        with hold_lock(project):
            return False
    except AlreadyRuns:
        return True


async def clear_strays(project: Project) -> int:
    """End what a dead run left: everything that carries the project's marks, and its Postgres."""
    from deploy.node import agents_mark

    ended = await end_strays(agents_mark(project)) + await end_strays(project.mark)
    for left in await asyncio.to_thread(processes_in, project.home / "postgres" / "data"):
        ended += await end(left, ((signal.SIGINT, 5.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)))
    return ended


def without_user(url: str) -> str:
    """A URL without its user and password, as it may be shown and stored."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def first_cause(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def main(arguments: list[str]) -> int:
    """The detached supervisor: everything it has to say goes to its log."""
    configure_logging("INFO", "supervisor")

    async def serve() -> int:
        project = Project.find(arguments[0])
        plan = await load_plan(project)
        configure_logging("INFO", "supervisor", plan.config.swarm.log_format)
        return await Supervisor(project, plan, _say_ready).run()

    try:
        return asyncio.run(serve())
    except BaseException as error:
        cause = first_cause(error)
        if not isinstance(cause, SwarmError | BusError | OSError):
            raise
        log.error("%s", cause)  # noqa: TRY400 - a sentence says it all
        return cause.exit_code if isinstance(cause, SwarmError) else 1


def _say_ready(missing: list[str]) -> None:
    for sentence in missing:
        log.error("%s", sentence)
    log.info("the swarm is ready" if not missing else "the swarm runs, but not all of it is ready")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
