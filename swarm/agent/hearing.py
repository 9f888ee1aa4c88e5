"""Hearing another agent's answer in pieces: typed, in order, never mixed with those of an earlier try."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from bus.envelope import Envelope, read_body
from bus.errors import BadMessage
from swarm.pieces import Piece, PieceReader
from swarm.records import Content

log = logging.getLogger(__name__)

OnPiece = Callable[[Piece], Awaitable[object] | None]
"""Gets each piece of an answer; a coroutine function is awaited before it gets the next one."""


@asynccontextmanager
async def heard_by(on_piece: OnPiece, who: str, seconds: float) -> AsyncIterator[Callable[[Envelope], None]]:
    """Gives what the bus is to call with each chunk of the ask within. When it is left, `on_piece` has had every
    piece that came, or `seconds` from the beginning are over. One that raises is logged and gets no more of
    this answer: the ask itself goes on, for its reply is whole without the pieces."""
    pieces: asyncio.Queue[Piece | None] = asyncio.Queue()
    reader = PieceReader()
    failure: Exception | None = None

    def take(chunk: Envelope) -> None:
        try:
            content = read_body(chunk, Content)
        except BadMessage as error:
            log.warning("a piece of the answer of %s is dropped: %s", who, error)
            return
        if (piece := reader.take(content)) is not None:
            pieces.put_nowait(piece)

    async with asyncio.TaskGroup() as group:
        group.create_task(_pass_on(pieces, on_piece, who, asyncio.get_running_loop().time() + seconds))
        try:
            yield take
        except Exception as error:  # out of the group as it is, not as one of a group
            failure = error
        finally:
            pieces.put_nowait(None)
    if failure is not None:
        raise failure


async def _pass_on(pieces: asyncio.Queue[Piece | None], on_piece: OnPiece, who: str, until: float) -> None:
    try:
        async with asyncio.timeout_at(until):
            while (piece := await pieces.get()) is not None:
                taken = on_piece(piece)
                if inspect.isawaitable(taken):
                    await taken
    except Exception as error:
        log.warning("what hears the pieces of %s failed and gets no more of them: %r", who, error)
