"""What the supervisor keeps running: our own processes, and the embedded servers beneath them.

Both have one shape: `start` returns when it runs, `keep` starts it again whenever it ends, `stop` ends it for
good. A budget bounds how fast; nothing here gives up, because without these there is no swarm.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.embedded.server import EmbeddedServer, ServerFailed
from deploy.last_line import last_line
from deploy.processes import ProcessId, kill_group, spawn
from deploy.restarts import RestartBudget
from deploy.slot import NO_RESTART
from swarm.errors import SwarmError

log = logging.getLogger(__name__)


class ChildFailed(SwarmError):
    """A process of ours ended with a code that says: starting me again would not help."""


class KeptProcess:
    """A process of ours, with its log. `on_change` is called at each start."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        log_file: Path,
        mark: str,
        on_change: Callable[[], None],
    ) -> None:
        self.name = name
        self.process: ProcessId | None = None
        self._argv = argv
        self._log_file = log_file
        self._mark = mark
        self._on_change = on_change
        self._child: subprocess.Popen[bytes] | None = None
        self._stopping = asyncio.Event()
        self._began = 0.0

    async def start(self) -> None:
        self._began = time.monotonic()
        self._child = spawn(self._argv, log_file=self._log_file, mark=self._mark)
        self.process = ProcessId.of(self._child.pid)
        self._on_change()

    async def keep(self) -> None:
        """Until `stop`. Raises ChildFailed for an end that a restart cannot mend."""
        budget = RestartBudget()
        while not self._stopping.is_set():
            code = await self._ended()
            if self._stopping.is_set():
                return
            if code in NO_RESTART:
                raise ChildFailed(
                    f"The {self.name} ended with {code} ({NO_RESTART[code]}): {last_line(self._log_file)}"
                )
            wait = budget.ended(self._began, time.monotonic())
            log.error("the %s ended (%s); starting it again in %.1f s", self.name, _how(code), wait)
            try:
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            except TimeoutError:
                await self.start()

    async def stop(self, steps: Sequence[tuple[int, float]]) -> None:
        """Ask, wait, kill: signals, and the seconds each has. Safe to call when it does not run."""
        self._stopping.set()
        process, child = self.process, self._child
        if process is None or child is None:
            return
        for number, seconds in steps:
            if not process.signal(number) or await process.gone(seconds):
                break
        kill_group(child.pid)
        await process.gone(2.0)
        child.poll()
        self.process = None

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.signal(number)

    async def _ended(self) -> int:
        child, process = self._child, self.process
        assert child is not None
        if process is not None:
            await process.gone(None)
        return child.wait()


async def keep_server(server: EmbeddedServer, restarted: Callable[[bool], None]) -> None:
    """Start an embedded server again whenever it ends unasked; `restarted` hears whether its port is another then."""
    budget = RestartBudget()
    while True:
        began, url = time.monotonic(), server.url
        said = await server.watch()
        if not said:
            return
        log.error("%s", said)
        wait = 0.0  # the first time at once: everything waits for it
        while True:
            await asyncio.sleep(wait)
            wait = budget.ended(began, time.monotonic())
            try:
                await server.start()
                break
            except ServerFailed as error:
                log.error("%s; trying again in %.1f s", error, wait)  # noqa: TRY400 - a sentence says it all
        log.info("%s runs again", server.name)
        restarted(server.url != url)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
