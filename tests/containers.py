"""The images that compose.yaml names as servers for tests: `make test-containers`, or `pytest -m containers`.

Whoever selects these tests wants them to run: without a container engine they fail, they do not skip.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.composed import Service, services


def require_engine() -> None:
    """Fails the test, with what to do, when no container engine answers."""
    if trouble := _trouble():
        pytest.fail(
            f"These tests were selected with -m containers, but no container engine answers ({trouble}); "
            "start one, or set DOCKER_HOST.",
            pytrace=False,
        )


def _trouble() -> str:
    import docker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the client leaves a socket that could not connect
        try:
            client = docker.from_env(timeout=10)
        except (docker.errors.DockerException, OSError) as error:
            trouble = str(error)
        else:
            client.close()
            trouble = ""
        gc.collect()
    return trouble


@contextmanager
def postgres_container() -> Iterator[str]:
    """The URL of a Postgres of the image in compose.yaml, with a user who may create roles."""
    require_engine()
    from testcontainers.core.container import DockerContainer

    service, password = services()["postgres"], secrets.token_hex(16)
    container = DockerContainer(service["image"]).with_command(service["command"]).with_exposed_ports(5432)
    for name in ("POSTGRES_USER", "POSTGRES_DB"):
        container = container.with_env(name, "swarm")
    with container.with_env("POSTGRES_PASSWORD", password) as container:
        _wait_for(container, service)
        yield f"postgresql://swarm:{password}@{_address(container, 5432)}/swarm"


class ContainerServers:
    """The images of compose.yaml, with its commands, environment and files; see `tests.composed.Servers`."""

    listen = "0.0.0.0:4222"
    monitor_port = 8222

    def __init__(self) -> None:
        self.bus = ""
        self.store = ""
        self._containers: list[Any] = []

    async def start_nats(self, service: Service, root: Path) -> None:
        await asyncio.to_thread(self._start_nats, service, root)

    async def start_postgres(self, service: Service, root: Path) -> None:
        await asyncio.to_thread(self._start_postgres, service, root)

    async def stop(self) -> None:
        for container in reversed(self._containers):
            await asyncio.to_thread(container.stop)
        self._containers.clear()

    def _start_nats(self, service: Service, root: Path) -> None:
        container = self._run(service, root, "wire", 4222)
        self.bus = _address(container, 4222)
        _wait_for(container, service)

    def _start_postgres(self, service: Service, root: Path) -> None:
        container = self._run(service, root, "store", 5432)
        self.store = _address(container, 5432)
        _wait_for(container, service)

    def _run(self, service: Service, root: Path, volume: str, port: int) -> Any:
        require_engine()
        from testcontainers.core.container import DockerContainer

        folder = f"/var/lib/swarm/{volume}"
        container = (
            DockerContainer(service["image"])
            .with_command(service["command"])
            .with_exposed_ports(port)
            .with_volume_mapping(f"{root}{folder}", folder, "ro")
        )
        for name, value in service.get("environment", {}).items():
            container = container.with_env(name, value)
        container.start()
        self._containers.append(container)
        return container


def _address(container: Any, port: int) -> str:
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"


def _wait_for(container: Any, service: Service) -> None:
    """Until the health check of compose.yaml passes inside the container."""
    from testcontainers.core.wait_strategies import ExecWaitStrategy

    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD"
    ExecWaitStrategy(words).with_startup_timeout(60).wait_until_ready(container)
