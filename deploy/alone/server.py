"""The HTTP server: uvicorn, as small as it goes. It has no signals, no logs of requests, and no say in when it ends.

Measured beside its like: uvicorn with h11 adds 6 MB and 45 ms of imports to asyncio, aiohttp 17 MB and 145 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from swarm.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

CONNECTIONS: Final = 256
"""At once; who comes when they are all taken hears 503."""
HEAD_BYTES: Final = 32_768
END_SECONDS: Final = 5
"""For answers that are on their way when all else has ended."""


def bind(host: str, port: int) -> socket.socket:
    """The listening socket. Raises ConfigError with what to do."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        why = error.strerror or str(error)
        raise ConfigError(
            f"{host} port {port} cannot be listened on ({why}); give another with --port, 0 for any that is free."
        ) from error


class HttpServer:
    """`run` serves until `end`. It owns the socket."""

    def __init__(self, application: Any, listening: socket.socket) -> None:
        self._server = _quiet_server(application)
        self._socket = listening
        self._over = asyncio.Event()

    async def run(self) -> None:
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            self._over.set()

    async def end(self, *, hurry: bool = False) -> None:
        """Accept no connection any more, let answers go out, close. `hurry`: close."""
        self._server.force_exit = hurry
        self._server.should_exit = True
        await self._over.wait()


def _quiet_server(application: Any) -> uvicorn.Server:
    try:
        import uvicorn
    except ImportError:
        raise ConfigError(
            "`swarm run` needs an HTTP server: install the extra, `pip install 'swarm-runtime[http]'`."
        ) from None
    logging.getLogger("uvicorn").setLevel(logging.WARNING)

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are the agent's: a drain comes before the end of the server."""
            yield

    return Server(
        uvicorn.Config(
            application,
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=END_SECONDS,
            h11_max_incomplete_event_size=HEAD_BYTES,
        )
    )
