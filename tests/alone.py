"""`swarm run` as a process of its own, for tests: an agent folder whose plugin waits for files, and what it says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import httpx

from swarm.testing import eventually_sync
from tests.servers import free_port

ROOT = Path(__file__).resolve().parent.parent
JSON = {"Content-Type": "application/json"}
STREAM = {**JSON, "Accept": "text/event-stream"}

PLUGIN = '''
import asyncio
from pathlib import Path
from swarm import Plugin, Service
from swarm.testing import eventually

HERE = Path(__file__).parent
plugin = Plugin("workshop", on_hook_error="fail_closed")


def note(word):
    with (HERE / "trace").open("a") as trace:
        trace.write(word + "\\n")


async def sign(name):
    await eventually((HERE / name).exists, seconds=600)


@plugin.service
class Bench(Service):
    service_type = "bench"

    async def start(self):
        note("service started")
        if (HERE / "wait").exists():
            await sign("go")

    async def stop(self):
        note("service stopped")


@plugin.hook
async def stop():
    note("plugin stopped")
    if (HERE / "stick").exists():
        note("sticking")
        await asyncio.Event().wait()


@plugin.action("ECHO")
async def echo(message):
    """Echoes."""
    return {"text": message.text, "data": {"sender": message.sender, "marks": message.content.metadata}}


@plugin.action("SLOW")
async def slow(message):
    """Takes until it may go on."""
    note("slow began")
    await sign("go")
    note("slow ended")
    return "slow is done"


@plugin.action("HANG")
async def hang(message):
    """Never ends."""
    note("hang began")
    await asyncio.Event().wait()


@plugin.action("PIECES")
async def pieces(message, callback):
    """Says three pieces."""
    for piece in ("one ", "two ", "three"):
        await callback(piece)
    return "one two three"


@plugin.action("BREAK")
async def break_it(message):
    """Fails."""
    raise ValueError("broken on purpose")


@plugin.hook
async def before_message(message):
    if message.text == "forbidden":
        raise ValueError("not in this workshop")
'''


def workshop(folder: Path, **character: Any) -> Path:
    """An agent's folder. Files named ``wait`` and ``stick`` in it, and ``go``, are signs to its plugin."""
    place = folder / "smith"
    place.mkdir(parents=True)
    (place / "character.json").write_text(json.dumps({"name": "Smith", "bio": "Works.", **character}))
    (place / "plugin.py").write_text(PLUGIN)
    return place


class Run:
    """A running `swarm run` in its own folder. `url` is known from the start, the agent may take a while."""

    def __init__(self, process: subprocess.Popen[str], url: str, place: Path, log: Path) -> None:
        self.process = process
        self.url = url
        self.place = place
        self._log = log
        self.client = httpx.Client(base_url=url, timeout=20, trust_env=False)

    def ready(self) -> dict[str, Any]:
        """What it announces when it takes messages."""
        line = _stdout(self.process).readline()
        assert line, f"it ended before it was ready: {self.log}"
        announced: dict[str, Any] = json.loads(line)
        return announced

    def say(self, text: str, **more: Any) -> httpx.Response:
        return self.client.post("/message", json={"text": text, **more})

    def sign(self, name: str) -> None:
        (self.place / name).touch()

    @property
    def trace(self) -> list[str]:
        file = self.place / "trace"
        return file.read_text().split("\n")[:-1] if file.exists() else []

    def until_traced(self, word: str, seconds: float = 10.0) -> None:
        self.until(lambda: word in self.trace, seconds, what=word)

    def until(self, condition: Any, seconds: float = 10.0, *, what: str = "it") -> Any:
        def alive_and_so() -> Any:
            assert self.process.poll() is None, f"it ended: {self.log}"
            return condition()

        return eventually_sync(alive_and_so, seconds=seconds, what=what)

    def status(self, path: str) -> int:
        """0 while nobody listens."""
        try:
            return self.client.get(path).status_code
        except httpx.ConnectError:
            return 0

    def signal(self, number: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def end(self, seconds: float = 15.0) -> int:
        return self.process.wait(seconds)

    @property
    def log(self) -> str:
        return self._log.read_text()


def _stdout(process: subprocess.Popen[str]) -> IO[str]:
    assert process.stdout is not None
    return process.stdout


def environment(**variables: str) -> Mapping[str, str]:
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("SWARM_", "PYTEST_", "COV_", "METRICS_"))
    }
    for name in ("DATABASE_URL", "HTTP_TOKEN", "PORT", "LOG_LEVEL"):
        kept.pop(name, None)
    return {**kept, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", **variables}


@contextmanager
def running(folder: Path, place: Path, *options: str, **variables: str) -> Iterator[Run]:
    """`swarm run` of the agent at `place`, in `folder`; killed at the end if it still is."""
    port = free_port()
    log = folder / "log"
    with log.open("a") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.cli", "run", str(place), "--port", str(port), "--json", *options],
            cwd=folder,
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
        )
    run = Run(process, f"http://127.0.0.1:{port}", place, log)
    try:
        yield run
    finally:
        run.client.close()
        if process.poll() is None:
            process.kill()
        process.wait(10)
        _stdout(process).close()
