"""What an asker hears: pieces of the answer, then one reply or one error, straight to its inbox."""

from __future__ import annotations

import logging
from typing import Literal

import msgspec

from bus.bus import Bus
from bus.envelope import Envelope, error_body, pack
from bus.errors import BadMessage, BusError, Failed
from swarm.ids import new_id
from swarm.records import Content

log = logging.getLogger(__name__)


class Answer:
    """The way back to one asker. `pieces` counts what it has heard before the end."""

    def __init__(self, bus: Bus, name: str, ask: Envelope, reply: str) -> None:
        self._bus = bus
        self._name = name
        self._ask = ask
        self._reply = reply
        self.pieces = 0

    async def say(self, piece: Content) -> None:
        self.pieces += 1
        await self._publish("chunk", pack(piece))

    async def reply(self, content: Content) -> None:
        await self._publish("reply", pack(content))

    async def fail(self, error: BusError) -> None:
        await self._publish("error", error_body(error))

    async def _publish(self, kind: Literal["chunk", "reply", "error"], body: msgspec.Raw) -> None:
        envelope = Envelope(
            id=new_id(),
            sender=self._name,
            to=self._ask.sender,
            room=self._ask.room,
            kind=kind,
            body=body,
            in_reply_to=self._ask.id,
            hops=self._ask.hops,
        )
        try:
            await self._bus.publish(self._reply, envelope)
        except BadMessage as error:  # the answer is larger than a message may be
            if kind == "reply":
                await self.fail(Failed(str(error), reason=error.reason))
        except BusError as error:
            log.warning("the answer to %s was not sent: %s", self._ask.id, error)
