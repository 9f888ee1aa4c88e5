"""What stands for a collector of spans: a real HTTP server that keeps what it is sent."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Collector:
    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.requests: list[tuple[str, dict[str, Any]]] = []

    @property
    def spans(self) -> dict[str, dict[str, Any]]:
        """The last of each name."""
        return {span["name"]: span for span in self.all_spans}

    @property
    def all_spans(self) -> list[dict[str, Any]]:
        return [
            span
            for _, body in self.requests
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(re.findall(r"content-length: (\d+)", head, re.IGNORECASE)[0])
        self.requests.append((head, json.loads(await reader.readexactly(length))))
        writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        await writer.drain()
        writer.close()


@asynccontextmanager
async def collecting(status: int = 200) -> AsyncIterator[tuple[Collector, str]]:
    collector = Collector(status)
    server = await asyncio.start_server(collector.answer, "127.0.0.1", 0)
    async with server:
        yield collector, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
