"""A real nats-server for tests of the bus: start, kill, freeze, restart on the same port. Nothing else."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sysconfig
from pathlib import Path

from swarm.testing import eventually_sync

NATS_SERVER = Path(sysconfig.get_path("scripts")) / "nats-server"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """A missing program or a server that does not start fails the test."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self.log = folder / "nats.log"
        self._config = folder / "nats.conf"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, config: str) -> None:
        self._config.write_text(config)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen([NATS_SERVER, "-c", self._config], stdout=log, stderr=log)
        eventually_sync(self._listens, seconds=10, what=f"nats-server on port {self.port}")

    def freeze(self) -> None:
        """Returns when every thread of it has stopped: the signal alone is only asked for."""
        self._signal(signal.SIGSTOP)
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task")
        eventually_sync(
            lambda: all(_state(thread) == "T" for thread in threads.iterdir()), seconds=5, what="its stop"
        )

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; frozen or gone already is fine."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


def _state(thread: Path) -> str:
    """The kernel's letter for a thread's state; T when it has ended meanwhile."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "T"
