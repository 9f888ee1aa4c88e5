"""Answers while the network is away: from what was answered before, else from the built-in model (H9).

At the edge these handlers stand before the others. Each asks the best of the others; when that one's
endpoint is out of reach it is left alone for a while, and what can be answered here is answered here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

import msgspec

from swarm.agent.hand import current_turn
from swarm.agent.models.local import PROVIDER as LOCAL
from swarm.agent.models.registry import Handler, ModelRegistry, Registration
from swarm.agent.models.types import TEXT_LARGE, TEXT_SMALL, ModelType, TextReply, TextRequest
from swarm.errors import ModelError, SwarmError
from swarm.plugin import ModelHandler
from swarm.stores.sqlite.edge import EdgeStore

log = logging.getLogger(__name__)

PROVIDER: Final = "edge"
PRIORITY: Final = 1_000
"""Above what plugins register, so that the network is tried first by us and not past us."""
OFFLINE_SECONDS: Final = 60.0
"""How long an endpoint that was out of reach is not tried: an answer from here must not wait for it each time."""
OUT_OF_REACH: Final = frozenset({"unreachable", "slow", "broken_off", "server_error", "not_json"})
"""Reasons of a ModelError that the network may be to blame for; a page instead of JSON is a hotel's."""


class Offline:
    """`responses` None: nothing is cached. `clock` gives seconds that only grow."""

    def __init__(
        self,
        models: ModelRegistry,
        responses: EdgeStore | None,
        *,
        seconds: float = OFFLINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = models
        self._responses = responses
        self._seconds = seconds
        self._clock = clock
        self._until = 0.0
        self.from_cache = 0
        self.from_local = 0

    @property
    def offline(self) -> bool:
        return self._clock() < self._until

    def handlers(self) -> list[ModelHandler]:
        return [ModelHandler(type, self._text(type), PROVIDER, PRIORITY) for type in (TEXT_LARGE, TEXT_SMALL)]

    def guard(self) -> None:
        """Let every model but the built-in one fail at once while the network is away, and notice when it goes.
        For when all plugins are loaded."""
        for type in ModelType:
            for one in self._models.get(type, ()):
                if one.provider not in (PROVIDER, LOCAL):
                    self._models.unregister(type, one.handler)
                    self._models.register(type, self._guarded(one), one.provider, one.priority)

    def _guarded(self, one: Registration) -> Handler:
        async def ask(request: Any) -> Any:
            if self.offline:
                raise ModelError(
                    f"The model provider {one.provider} was out of reach and is not tried again yet.",
                    reason="unreachable",
                )
            try:
                return await one.handler(request)
            except ModelError as error:
                if error.reason in OUT_OF_REACH:
                    log.warning("offline for %g s: %s", self._seconds, error)
                    self._until = self._clock() + self._seconds
                raise

        return ask

    def _text(self, type: str) -> Handler:
        async def answer(request: TextRequest) -> TextReply:
            far, local = self._others(type)
            said = False

            async def pass_on(piece: str) -> None:
                nonlocal said
                said = True
                assert request.on_chunk is not None
                await request.on_chunk(piece)

            if far is not None:
                streamed = request.on_chunk is not None
                asked = msgspec.structs.replace(request, on_chunk=pass_on) if streamed else request
                try:
                    reply: TextReply = await far.handler(asked)
                except ModelError as error:
                    if said or error.reason not in OUT_OF_REACH:
                        raise  # half an answer and another one are none
                else:
                    await self._keep(request, reply)
                    return reply
            return await self._here(request, far, local)

        return answer

    async def _here(
        self, request: TextRequest, far: Registration | None, local: Registration | None
    ) -> TextReply:
        if far is not None and (known := await self._known(request)) is not None:
            self.from_cache += 1
            if request.on_chunk is not None:
                await request.on_chunk(known)
            return TextReply(known, model="cache")
        self.from_local += 1
        if local is None:
            raise ModelError("No model here serves text, and the network is away.", reason="unreachable")
        reply: TextReply = await local.handler(request)
        return reply

    def _others(self, type: str) -> tuple[Registration | None, Registration | None]:
        """The best that is not here, and the built-in one."""
        others = [one for one in self._models.get(type, ()) if one.provider != PROVIDER]
        far = next((one for one in others if one.provider != LOCAL), None)
        return far, next((one for one in others if one.provider == LOCAL), None)

    async def _known(self, request: TextRequest) -> str | None:
        room = _room()
        if self._responses is None or room is None:
            return None
        return await self._responses.response(room, request.last_user_text())

    async def _keep(self, request: TextRequest, reply: TextReply) -> None:
        room = _room()
        if self._responses is None or room is None or not reply.text or reply.finish != "stop":
            return
        try:
            await self._responses.keep_response(room, request.last_user_text(), reply.text)
        except SwarmError as error:
            log.warning("an answer is not kept for when the network is away: %s", error)


def _room() -> str | None:
    """What was said in one room is never told in another."""
    turn = current_turn()
    return turn.message.room if turn is not None else None
