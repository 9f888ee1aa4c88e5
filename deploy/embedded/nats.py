"""`nats-server` in a folder: the wire of a swarm on one machine. It holds no state worth keeping."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import secrets
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.embedded.binaries import find_nats_server
from deploy.embedded.server import (
    LOOPBACK,
    EmbeddedServer,
    ServerFailed,
    log_size,
    log_tail,
    private_file,
    run_tool,
)
from deploy.processes import ProcessId, Rights

log = logging.getLogger(__name__)


class EmbeddedNats(EmbeddedServer):
    """A NATS server with the configuration given (accounts, permissions, …; no listen address, port or name).

    Unlike Postgres it is never adopted: the configuration is the supervisor's of today, and clients reconnect.
    """

    name = "nats"
    death_signal = signal.SIGTERM
    # SIGINT and SIGTERM both end it at once; clients reconnect, nothing is to be saved.
    stop_steps = ((signal.SIGTERM, 0.6), (signal.SIGKILL, 0.4))

    def __init__(
        self,
        folder: Path | str,
        port: int = 0,
        config_text: str = "",
        *,
        outlive: bool = False,
        mark: str = "",
    ) -> None:
        super().__init__(folder, port, outlive=outlive, mark=mark)
        self._config_text = config_text
        self._server_name = ""

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def config_file(self) -> Path:
        return self.folder / "nats.conf"

    async def reload(self, config_text: str, timeout: float = 5.0) -> None:
        """Returns when another configuration is in force; connections that it still allows stay.

        Raises ServerFailed, with the old one in force, if it is not valid. Listen address and port stay.
        """
        if not self.running or self._process is None:
            raise ServerFailed("nats does not run, so it cannot reload; start it.", reason="not_running")
        trial = self.folder / "nats.conf.trial"
        try:
            private_file(trial, self._whole(config_text))
            await self._check(trial)
            private_file(self.config_file, self._whole(config_text))
        finally:
            trial.unlink(missing_ok=True)
        offset = log_size(self.log_file)
        self._process.signal(signal.SIGHUP)
        try:
            await self._reloaded(offset, timeout)
        except ServerFailed:
            private_file(self.config_file, self._whole(self._config_text))
            raise
        self._config_text = config_text

    async def _reloaded(self, offset: int, timeout: float) -> None:
        """Waits for the server's word on a reload: there are changes that it takes only at a start."""
        try:
            async with asyncio.timeout(timeout):
                while "Reloaded server configuration" not in (said := log_tail(self.log_file, offset)):
                    if "Failed to reload" in said:
                        raise ServerFailed(
                            f"nats-server did not reload; see {self.log_file}, or stop and start it.",
                            reason="not_reloaded",
                        )
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise ServerFailed(
                f"nats-server did not reload within {timeout:g} s; see {self.log_file}.", reason="too_slow"
            ) from None

    def _whole(self, config: str) -> str:
        """With our name for the server last, where it wins: `_ready` looks for it. A flag would block reloads."""
        return f"{config}\nserver_name: {self._server_name}\n"

    async def _prepare(self, deadline: float) -> None:
        self._server_name = f"embedded-{secrets.token_hex(4)}"
        self._program = find_nats_server()
        private_file(self.config_file, self._whole(self._config_text))
        await self._check(self.config_file)

    async def _check(self, file: Path) -> None:
        code, said = await run_tool(
            [self._program, "-t", "-c", file], log_file=self.folder / "check.log", environment=_environment()
        )
        if code != 0:
            # Quoted parts may be secrets out of the configuration.
            last = (said.strip().splitlines() or ["it said nothing"])[-1]
            hidden = re.sub(r"\"[^\"]*\"|'[^']*'", "…", last.rpartition(file.name)[2])
            raise ServerFailed(
                f"nats-server refuses its configuration ({file.name}{hidden}); correct it.",
                reason="bad_config",
            )

    def _command(self, port: int) -> tuple[Sequence[str | Path], Mapping[str, str], Rights, Path | None]:
        argv: list[str | Path] = [self._program, "-c", self.config_file]
        argv += ["-a", LOOPBACK, "-p", str(port)]
        return argv, _environment(), Rights.OWN, self.folder

    async def _ready(self, process: ProcessId, port: int) -> bool:
        """Reads the server's first line: its name tells it from whoever else might have the port."""
        try:
            reader, writer = await asyncio.open_connection(LOOPBACK, port, limit=1 << 20)
        except OSError:
            return False
        try:
            async with asyncio.timeout(0.5):
                line = await reader.readline()
        except (OSError, TimeoutError, ValueError):
            return False
        finally:
            writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        try:
            return bool(json.loads(line.removeprefix(b"INFO "))["server_name"] == self._server_name)
        except (ValueError, KeyError, TypeError):
            return False


def _environment() -> dict[str, str]:
    return {"PATH": "/usr/local/bin:/usr/bin:/bin"}
