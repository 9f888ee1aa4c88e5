"""`/health`, `/ready`, `/metrics`: two questions that are not one, and numbers; nobody is kept waiting."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import pytest

from swarm.errors import ConfigError
from swarm.metrics import pages as module
from swarm.metrics.family import Family, gauge
from swarm.metrics.pages import Pages


class Looked:
    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.hang = False
        self.broken = False

    async def ready(self) -> list[str]:
        if self.hang:
            await asyncio.Event().wait()
        return self.reasons

    async def families(self) -> Iterable[Family]:
        if self.broken:
            raise RuntimeError("no")
        return [gauge("swarm_agent_up", "Ready.", [({"agent": "ada"}, 1)])]


@asynccontextmanager
async def served(looked: Looked) -> AsyncIterator[int]:
    pages = Pages("127.0.0.1:0", looked.ready, looked.families)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(pages.run())
        yield await pages.port
        running.cancel()


async def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), body


async def test_alive_is_not_ready() -> None:
    looked = Looked()
    async with served(looked) as port:
        assert (await get(port, "/ready"))[0] == 200
        looked.reasons = ["The bus cannot be reached."]
        status, body = await get(port, "/ready?verbose=1")
        assert status == 503 and json.loads(body)["reasons"] == looked.reasons
        assert (await get(port, "/health"))[0] == 200


async def test_a_check_that_hangs_is_an_answer_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READY_SECONDS", 0.05)
    looked = Looked()
    looked.hang = True
    async with served(looked) as port:
        status, body = await get(port, "/ready")
        assert status == 503 and b"did not end" in body


async def test_metrics_are_prometheus_text_and_a_failure_is_503() -> None:
    looked = Looked()
    async with served(looked) as port:
        status, body = await get(port, "/metrics")
        assert status == 200 and b'swarm_agent_up{agent="ada"} 1' in body
        assert await get(port, "/metrics", "HEAD") == (200, b"")
        looked.broken = True
        assert (await get(port, "/metrics"))[0] == 503


async def test_nothing_else_is_here() -> None:
    async with served(Looked()) as port:
        assert (await get(port, "/"))[0] == 404
        assert (await get(port, "/health", "POST"))[0] == 405
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\x00\x01 not http\r\n\r\n")
        assert b" 400 " in (await reader.read()).partition(b"\r\n")[0]
        writer.close()
        assert (await get(port, "/health"))[0] == 200


async def test_an_address_that_cannot_be_had_is_a_sentence() -> None:
    looked = Looked()
    with pytest.raises(ConfigError, match="HOST:PORT"):
        Pages("9100", looked.ready, looked.families)
    async with served(looked) as port:
        with pytest.raises(ConfigError, match="cannot be listened on"):
            await Pages(f"127.0.0.1:{port}", looked.ready, looked.families).run()
