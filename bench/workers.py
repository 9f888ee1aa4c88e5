"""The bench's side of a baseline process: start it, give it orders, end it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, Self

ANSWER_SECONDS = 60.0


class Worker:
    """One `bench.raw` process. The URL may hold a password, which on a bench's own server is worth nothing."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, role: str, loop: str, url: str) -> Self:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.raw", role, loop, url,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 24,
        )  # fmt: skip
        worker = cls(process)
        try:
            await worker._line()
        except BaseException:
            await worker.end()
            raise
        return worker

    @property
    def pid(self) -> int:
        return self._process.pid

    async def order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()
        return await self._line()

    async def end(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def _line(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(ANSWER_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("A baseline process ended; what it said is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer
