"""The worker that gives memories their embeddings, and the search that uses them.

The queue is durable because it is no list: a memory is due for as long as the store holds no embedding of it
by the model in use (`Store.embeddings_due`). So a crash loses nothing, another instance may take over, and a
new model makes everything due again. The worker runs when it is woken, at the agent's start and whenever
this process has remembered something, until nothing is due; between, it holds nothing and asks nothing.

What is embedded: memories of the kinds in the setting ``embeddedKinds`` (``fact``, ``document`` and ``passage``
unless said otherwise; ``message`` costs a model call for each thing said), by an agent that has an EMBEDDING model.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from swarm.agent.models.types import EMBEDDING, EmbeddingReply, EmbeddingRequest
from swarm.errors import ModelError, StoreError
from swarm.records import Found, Memory

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)

DEFAULT_KINDS: Final = ("fact", "document", "passage")
EVERYDAY_KINDS: Final = ("message", "evaluation")
"""What every turn writes: of these only the embedded ones wake the worker. Any other kind does, too: who writes
a catalogue through the runtime may have written its passages past it, straight to the store."""
BATCH: Final = 32
TEXT_BOUND: Final = 8_000
"""Characters of a memory that are embedded: small models read less, and large ones are paid by length."""
CALL_SECONDS: Final = 60.0
FAILURES_IN_A_ROW: Final = 3
"""So many single texts refused one after another mean that the model is away, not that the texts are bad."""


class Embeddings:
    """One agent's worker. The runtime owns its task and ends it at its stop."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._model: str | None = None
        """Known from the first reply on."""
        self._running = False
        self._again = False
        self._refused: dict[str, None] = {}
        """Ids that the model refuses one by one; they stay due for the next process."""

    @property
    def kinds(self) -> tuple[str, ...]:
        kinds = self._runtime.get_setting("embeddedKinds", DEFAULT_KINDS)
        return tuple(kinds.replace(",", " ").split() if isinstance(kinds, str) else map(str, kinds))

    def wake(self, written: Iterable[Memory] | None = None) -> None:
        """There may be something to do. With `written`, only if these memories are such that it is likely."""
        if not self._runtime.models.has(EMBEDDING):
            return
        if written is not None:
            kinds = self.kinds
            if not any(m.kind in kinds or m.kind not in EVERYDAY_KINDS for m in written):
                return
        self._again = True
        if not self._running:
            self._running = self._runtime.in_background(self._empty(), "embeddings")

    async def _empty(self) -> None:
        try:
            while self._again:
                self._again = False
                while await self._one_batch():
                    pass
        except (ModelError, StoreError) as error:
            self._runtime.metrics.count_failure("model", "embedding")
            log.warning("memories wait for their embeddings until the next is written: %s", error)
        finally:
            self._running = False

    async def _one_batch(self) -> bool:
        """False when nothing is due. Raises ModelError while the model is away."""
        due = await self._runtime.adapter.embeddings_due(
            BATCH + len(self._refused), kinds=self.kinds, model=self._model
        )
        due = [memory for memory in due if memory.id not in self._refused]
        failures, size = 0, BATCH
        while due:
            part = due[:size]
            try:
                await self._embed(part)
            except ModelError:
                if len(part) > 1:
                    size = max(len(part) // 4, 1)  # which of them is it?
                    continue
                failures += 1
                self._refused[part[0].id] = None
                if failures >= FAILURES_IN_A_ROW or len(self._refused) > 10 * BATCH:
                    self._refused.clear()
                    raise
            else:
                failures = 0
            due = due[len(part) :]
            if not due:
                return True
        return False

    async def _embed(self, memories: Sequence[Memory]) -> None:
        reply = await self._ask(tuple(m.content.text[:TEXT_BOUND] for m in memories), query=False)
        await self._runtime.adapter.set_embeddings(
            reply.model, {m.id: v for m, v in zip(memories, reply.vectors, strict=True)}
        )
        self._model = reply.model

    async def _ask(self, texts: tuple[str, ...], *, query: bool) -> EmbeddingReply:
        request = EmbeddingRequest(texts=texts, purpose="query" if query else "passage", timeout=CALL_SECONDS)
        reply = await self._runtime.models.use(EMBEDDING, request)
        if not isinstance(reply, EmbeddingReply) or len(reply.vectors) != len(texts) or not reply.model:
            raise ModelError(
                "The embedding model's reply does not fit: it takes the model's name and a vector for each text.",
                reason="bad_reply",
            )
        return reply

    async def search(
        self,
        text: str,
        *,
        room: str | None = None,
        kind: str | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Found]:
        """By text, and by meaning too where the agent has an EMBEDDING model that answers."""
        vector, model = None, None
        if text.strip() and self._runtime.models.has(EMBEDDING):
            try:
                reply = await self._ask((text[:TEXT_BOUND],), query=True)
                vector, model = reply.vectors[0], reply.model
                if model != self._model:  # first heard of: what another model embedded before is due again
                    self._model = model
                    self.wake()
            except ModelError as error:
                log.warning("searching by words alone: %s", error)
        return await self._runtime.adapter.search_memories(
            text=text, embedding=vector, model=model, room=room, kind=kind, limit=limit, min_score=min_score
        )
