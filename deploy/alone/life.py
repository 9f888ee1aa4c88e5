"""The life of an agent that is alone, from its character to its exit code.

The port is there first, so that whoever asks hears 503 and not nothing while the agent starts. At SIGTERM or SIGINT:

    no new message → what was asked is answered, to a deadline → the server → plugins → services → store → exit 0

A second signal cancels what is left and ends with 70; so does a deadline that passed.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine
from typing import Any, Final

from deploy.alone.agent import Alone
from deploy.alone.door import HttpDoor
from deploy.alone.server import HttpServer, bind
from deploy.alone.settings import RunSettings
from swarm.agent.instance import DRAINED, FORCED, Stop
from swarm.character import load_character

log = logging.getLogger(__name__)

FORCE_SECONDS: Final = 5.0
"""After a second signal, for what does not even end when it is cancelled."""


async def live(settings: RunSettings, announce: Callable[[Alone, str], None]) -> int:
    """Run one agent until it is told to stop. `announce` is called with the URL when it takes messages.
    Raises SwarmError, BusError for what keeps it from starting; nothing is left behind then."""
    stop = Stop()
    stop.listen()
    agent = Alone(await load_character(settings.source), settings)
    listening = bind(settings.host, settings.port)
    host, port = listening.getsockname()[:2]
    if not settings.on_loopback and not settings.token:
        log.warning("everybody who reaches %s may speak to this agent: set HTTP_TOKEN", host)
    drained = True
    async with asyncio.TaskGroup() as group:
        server = HttpServer(HttpDoor(agent, settings), listening)
        group.create_task(server.run())
        forcing = group.create_task(_force(stop))
        try:
            if await _started(agent, group, stop):
                announce(agent, f"http://{f'[{host}]' if ':' in host else host}:{port}")
                await stop.term.wait()
                log.info("stopping: no new message, at most %g s for those in hand", settings.drain_seconds)
                drained = await agent.drain(stop, settings.drain_seconds)
        finally:
            await server.end(hurry=stop.hurry.is_set())
            drained = await _unless_hurried(agent.end(stop), stop) and drained
            forcing.cancel()
    return DRAINED if drained and not stop.hurry.is_set() else FORCED


async def _started(agent: Alone, owner: asyncio.TaskGroup, stop: Stop) -> bool:
    """False when it was told to stop before it had started."""
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(agent.start(owner))
        waiting = group.create_task(stop.term.wait())
        await asyncio.wait((starting, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not starting.done():
            starting.cancel()
    return not starting.cancelled()


async def _unless_hurried(work: Coroutine[Any, Any, None], stop: Stop) -> bool:
    """Whether it was done before a second signal came."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        waiting = group.create_task(stop.hurry.wait())
        await asyncio.wait((working, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not working.done():
            working.cancel()
    return not working.cancelled()


async def _force(stop: Stop) -> None:
    """Code that swallows its cancellation must not outlive a second signal."""
    await stop.hurry.wait()
    await asyncio.sleep(FORCE_SECONDS)
    log.error("forced: something did not end within %g s of a second signal", FORCE_SECONDS)
    os._exit(FORCED)
