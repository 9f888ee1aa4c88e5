"""The pieces of one run's answer: in order, numbered from 0, and ended once.

Each carries `message_id`, `run_id`, `seq` and `final`. The final piece is empty and comes when the turn has
committed, so whoever has seen it knows that the answer stands. A message that is tried again begins a new
run, and whoever listens drops what the run before had said (`swarm.pieces`).
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from swarm.agent.storable import Unstorable, storable
from swarm.records import Content

if TYPE_CHECKING:
    from swarm.agent.events import Events
    from swarm.agent.hand import Say

log = logging.getLogger(__name__)

MOST_PIECES: Final = 100_000
MOST_CHARACTERS: Final = 10_000_000
"""What one run may say in pieces; an action that says more fails."""


class Pieces:
    """`say` hands a piece to whoever asked; listeners of ``action:response`` get each, too."""

    def __init__(self, message_id: str, run_id: str, say: Say, events: Events) -> None:
        self._mark = {"message_id": message_id, "run_id": run_id}
        self._say = say
        self._events = events
        self._one_at_a_time = asyncio.Lock()
        self._action = ""
        self._said = 0
        self._characters = 0
        self._ended = False

    async def say(self, content: Content, action: str = "") -> None:
        """Raises Unstorable for what cannot be sent, or is too much; the action that made it fails."""
        text, data = storable(f"A piece of {action or 'the answer'}", content.text, content.data)
        async with self._one_at_a_time:
            if self._ended:
                log.warning(
                    "a piece of %s came after the end of its turn and is dropped", action or "an answer"
                )
                return
            self._characters += len(text)
            if self._said >= MOST_PIECES or self._characters > MOST_CHARACTERS:
                raise Unstorable(
                    f"More than {MOST_PIECES:,} pieces or {MOST_CHARACTERS:,} characters were streamed; "
                    "an answer must be shorter.",
                    reason="too_large",
                )
            self._action = action
            await self._send(Content(text=text, data=data, metadata=content.metadata), final=False)

    async def end(self) -> None:
        """The final piece, if anything was said in pieces. Once; whatever comes later is dropped."""
        async with self._one_at_a_time:
            if self._ended:
                return
            self._ended = True
            if self._said:
                await self._send(Content(), final=True)

    async def _send(self, content: Content, *, final: bool) -> None:
        mark = {**self._mark, "seq": self._said, "final": final}
        self._said += 1
        await self._say(Content(text=content.text, data=content.data, metadata={**content.metadata, **mark}))
        if self._events.heard("action:response"):
            await self._events.emit("action:response", action=self._action, response=content, **mark)
