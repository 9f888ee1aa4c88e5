"""An answer as server-sent events: each piece as it is made, then the whole, or the error.

    event: chunk   {"text", "run_id", "seq", "final", "restarted"}   restarted: what came before is void
    event: reply   as without streaming
    event: error   {"error", "reason"}

What goes wrong before the first piece is a plain answer with its status, as without streaming.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from bus.errors import BusError
from deploy.alone.reply import Refusal, Reply, refusal_of, to_json
from swarm.pieces import Piece
from swarm.records import Content

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Ask = Callable[[Callable[[Piece], None]], Awaitable[Content]]

BEAT_SECONDS: Final = 15.0
"""A comment so often, when nothing else is said: who is in between keeps the connection open."""
SEND_SECONDS: Final = 30.0
"""For one event to be taken. Who reads no more is not waited for: its connection is closed."""
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"x-content-type-options", b"nosniff"),
]


async def stream(ask: Ask, answer: Callable[[Content], dict[str, Any]], send: Send) -> Reply | None:
    """Send the events; None when they were sent, or nobody took them, else the plain reply to send instead."""
    said: asyncio.Queue[Piece | Content | Refusal] = asyncio.Queue()

    async def settle() -> None:
        try:
            said.put_nowait(await ask(said.put_nowait))
        except BusError as error:
            said.put_nowait(refusal_of(error))

    begun = False
    async with asyncio.TaskGroup() as group:
        asking = group.create_task(settle())
        while True:
            try:
                async with asyncio.timeout(BEAT_SECONDS):
                    one: Piece | Content | Refusal | None = await said.get()
            except TimeoutError:
                one = None
            if isinstance(one, Refusal) and not begun:
                return one.reply()
            ended = isinstance(one, Content | Refusal)
            event = {"type": "http.response.body", "body": _event(one, answer), "more_body": not ended}
            try:
                async with asyncio.timeout(SEND_SECONDS):
                    if not begun:
                        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                        begun = True
                    await send(event)
            except TimeoutError:
                log.info("a stream is not read any more; it is closed")
                asking.cancel()
                return None
            if ended:
                return None


def _event(one: Piece | Content | Refusal | None, answer: Callable[[Content], dict[str, Any]]) -> bytes:
    match one:
        case Piece():
            told = {
                "text": one.text,
                "run_id": one.run_id,
                "seq": one.seq,
                "final": one.final,
                "restarted": one.restarted,
            }
            return b"event: chunk\ndata: " + to_json(told) + b"\n\n"
        case Content():
            return b"event: reply\ndata: " + to_json(answer(one)) + b"\n\n"
        case Refusal():
            return b"event: error\ndata: " + to_json(one.said()) + b"\n\n"
    return b": still at it\n\n"
