"""A model behind an OpenAI-compatible endpoint: OpenAI, Ollama, vLLM, llama.cpp and many others.

A thin client over httpx and not the `openai` package, which takes twice the memory and three times the
import time for the three calls used here. Choosing is done by asking: the answer must be a candidate's
exact name or simile; another answer is told once what the valid ones are, and then nothing is chosen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from swarm.agent.models.choice import MOST_STEPS, resolve
from swarm.agent.models.json_answer import NoJson, find_json, without_thoughts
from swarm.agent.models.openai_settings import OpenAISettings
from swarm.agent.models.openai_wire import Json, OpenAIWire
from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.tokens import estimate_tokens
from swarm.agent.models.types import (
    CHOICE,
    EMBEDDING,
    OBJECT,
    TEXT_LARGE,
    TEXT_SMALL,
    Candidate,
    ChoiceReply,
    ChoiceRequest,
    Conversation,
    EmbeddingReply,
    EmbeddingRequest,
    Message,
    ObjectReply,
    ObjectRequest,
    TextReply,
    TextRequest,
    Usage,
)
from swarm.errors import ModelError

PROVIDER: Final = "openai"
NONE: Final = "NONE"
"""What a model says to choose nothing, unless a candidate is called so."""

_BETWEEN: Final = re.compile(r"[,;\n]|->|→")
_COUNT: Final = re.compile(r"^\s*(?:\d+[.)]|[-*])\s*")

_CHOOSE: Final = (
    "Choose the one action that the user's last message asks for. Answer with exactly one name from this "
    "list and nothing else, or with {none} if no action fits. Only if the message asks for several things, "
    "answer with their names in the order in which they should run, separated by commas.\n\n{actions}"
)
_CHOOSE_AGAIN: Final = (
    "{answer!r} is not one of the actions. The valid answers are: {names}. Answer with one of them only."
)
_OBJECT: Final = "Answer with one JSON value and nothing else. It must fit this JSON Schema:\n{schema}"
_OBJECT_AGAIN: Final = "That answer cannot be used: {complaint}. Answer with the JSON value only."


class OpenAICompatible:
    """Handles every model type of the runtime for one endpoint. `close` it when the agent stops."""

    def __init__(self, settings: OpenAISettings) -> None:
        self._settings = settings
        self._wire = OpenAIWire(settings)

    async def close(self) -> None:
        await self._wire.close()

    async def text_small(self, request: TextRequest) -> TextReply:
        return await self._text(self._settings.small_model, request)

    async def text_large(self, request: TextRequest) -> TextReply:
        return await self._text(self._settings.large_model, request)

    async def object(self, request: ObjectRequest) -> ObjectReply:
        """A JSON value of the schema's outer shape; asked for twice at most. ModelError: ``not_json``."""
        ask = _OBJECT.format(schema=json.dumps(dict(request.schema), ensure_ascii=False))
        body = self._body(self._settings.large_model, request, extra_system=ask)
        formats: dict[str, Json] = {
            "json_schema": {
                "type": "json_schema",
                "json_schema": {"name": request.name, "schema": dict(request.schema)},
            },
            "json_object": {"type": "json_object"},
        }
        if self._settings.object_mode in formats:
            body["response_format"] = formats[self._settings.object_mode]
        usage, complaint = Usage(), ""
        for _ in range(2):
            reply = await self._complete_object(body, request.timeout)
            usage += reply.usage
            try:
                return ObjectReply(find_json(reply.text, request.schema), usage, reply.model)
            except NoJson as error:
                complaint = str(error)
            body = _continued(body, reply.text, _OBJECT_AGAIN.format(complaint=complaint))
        raise ModelError(
            f"The model at {self._settings.host} was asked for JSON twice and gave none that fits: {complaint}.",
            reason="not_json",
        )

    async def embed(self, request: EmbeddingRequest) -> EmbeddingReply:
        if not request.texts:
            return EmbeddingReply((), Usage(), self._settings.embedding_model)
        body = {"model": self._settings.embedding_model, "input": list(request.texts)}
        answer = await self._wire.post("/embeddings", body, request.timeout)
        vectors = _vectors(answer.get("data"), len(request.texts))
        if vectors is None:
            raise self._nonsense("one vector for each text")
        usage = _usage(answer.get("usage")) or Usage(
            sum(map(estimate_tokens, request.texts)), 0, estimated=True
        )
        return EmbeddingReply(vectors, usage, str(answer.get("model") or self._settings.embedding_model))

    async def choose(self, request: ChoiceRequest) -> ChoiceReply:
        listed = "\n".join(f"- {one.name}: {one.description}" for one in request.candidates)
        asked = Conversation(prompt=request.text, messages=request.context, temperature=0.0)
        body = self._body(
            self._settings.small_model, asked, extra_system=_CHOOSE.format(none=NONE, actions=listed)
        )
        usage = Usage()
        for _ in range(2):
            reply = await self._complete(body, request.timeout)
            usage += reply.usage
            answer = _choice_word(reply.text)
            names = _plan(answer, request.candidates)
            if names:
                return ChoiceReply(
                    name=names[0],
                    plan=names if len(names) > 1 else (),
                    outcome="chosen",
                    confidence=1.0,
                    answer=answer[:200],
                    usage=usage,
                    model=reply.model,
                )
            if resolve(answer, (Candidate(NONE),)) is not None:
                return ChoiceReply(
                    name=None, outcome="abstained", answer=NONE, usage=usage, model=reply.model
                )
            valid = ", ".join([*(one.name for one in request.candidates), NONE])
            body = _continued(body, reply.text, _CHOOSE_AGAIN.format(answer=answer[:80], names=valid))
        return ChoiceReply(
            name=None, outcome="unresolved", answer=answer[:200], usage=usage, model=reply.model
        )

    async def _text(self, model: str, request: TextRequest) -> TextReply:
        body = self._body(model, request)
        if request.stop:
            body["stop"] = list(request.stop)
        if request.on_chunk is None:
            return await self._complete(body, request.timeout)
        return await self._streamed(body, request)

    async def _streamed(self, body: Json, request: TextRequest) -> TextReply:
        pieces: list[str] = []
        usage: Usage | None = None
        finish, model = "", str(body["model"])
        on_chunk = request.on_chunk

        async def on_event(event: Json) -> None:
            nonlocal usage, finish, model
            usage = _usage(event.get("usage")) or usage
            model = str(event.get("model") or model)
            choice = _first_choice(event)
            said = choice.get("delta") or choice.get("message") or {}
            finish = str(choice.get("finish_reason") or finish)
            piece = said.get("content") if isinstance(said, dict) else None
            if isinstance(piece, str) and piece:
                pieces.append(piece)
                if on_chunk is not None:
                    await on_chunk(piece)

        asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
        await self._wire.stream("/chat/completions", asked, on_event, request.timeout)
        if not finish:
            raise ModelError(
                f"The model endpoint {self._settings.host} ended its stream before the answer was whole; "
                "try again.",
                reason="broken_off",
            )
        text = "".join(pieces)
        return TextReply(text, usage or _estimated(body, text), model, finish)

    async def _complete(self, body: Json, timeout: float | None) -> TextReply:
        answer = await self._wire.post("/chat/completions", body, timeout)
        choice = _first_choice(answer)
        said = choice.get("message")
        text = said.get("content") if isinstance(said, dict) else None
        if not isinstance(text, str):
            raise self._nonsense("a message")
        return TextReply(
            text,
            _usage(answer.get("usage")) or _estimated(body, text),
            str(answer.get("model") or body["model"]),
            str(choice.get("finish_reason") or "stop"),
        )

    async def _complete_object(self, body: Json, timeout: float | None) -> TextReply:
        """A completion; a server that does not know `response_format` is asked without it."""
        try:
            return await self._complete(body, timeout)
        except ModelError as error:
            if error.reason != "bad_request" or "response_format" not in body:
                raise
        del body["response_format"]
        return await self._complete(body, timeout)

    def _body(self, model: str, asked: Conversation, extra_system: str = "") -> Json:
        system = "\n\n".join(filter(None, (asked.system, extra_system)))
        turns = ([Message("system", system)] if system else []) + list(asked.turns())
        body: Json = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
        }
        if asked.temperature is not None:
            body["temperature"] = asked.temperature
        if asked.max_tokens is not None:
            body[self._settings.max_tokens_field] = asked.max_tokens
        return body

    def _nonsense(self, wanted: str) -> ModelError:
        return ModelError(
            f"The model endpoint {self._settings.host} answered without {wanted}; "
            "check that it speaks the OpenAI protocol and that the model is right.",
            reason="bad_answer",
        )


def register_openai(
    registry: ModelRegistry, settings: OpenAISettings, *, provider: str = PROVIDER, priority: int = 0
) -> OpenAICompatible:
    """Register one endpoint for every model type, above the built-in local model. The caller closes it."""
    model = OpenAICompatible(settings)
    registry.register(TEXT_SMALL, model.text_small, provider, priority)
    registry.register(TEXT_LARGE, model.text_large, provider, priority)
    registry.register(OBJECT, model.object, provider, priority)
    registry.register(EMBEDDING, model.embed, provider, priority)
    registry.register(CHOICE, model.choose, provider, priority)
    return model


def _first_choice(answer: Json) -> Json:
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first if isinstance(first, dict) else {}


def _choice_word(text: str) -> str:
    """The answer without thoughts; of a JSON answer such as ``{"action": "X"}`` or ``["X", "Y"]``, its names."""
    answer = without_thoughts(text)
    try:
        value = find_json(answer)
    except NoJson:
        return answer
    if isinstance(value, dict):
        parts = [one for one in value.values() if isinstance(one, str | list)]
        value = parts[0] if len(parts) == 1 else answer
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return ", ".join(value)
    return value if isinstance(value, str) else answer


def _plan(answer: str, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The candidates that an answer names: one, or several with commas or lines between; all of them or none."""
    one = resolve(answer, candidates)
    if one is not None:
        return (one,)
    parts = [part for part in _BETWEEN.split(answer) if part.strip()]
    if not 2 <= len(parts) <= MOST_STEPS:
        return ()
    names = [resolve(_COUNT.sub("", part), candidates) for part in parts]
    return tuple(dict.fromkeys(name for name in names if name)) if all(names) else ()


def _continued(body: Json, answer: str, complaint: str) -> Json:
    said = [{"role": "assistant", "content": answer}, {"role": "user", "content": complaint}]
    return {**body, "messages": [*body["messages"], *said]}


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    spent, made = value.get("prompt_tokens"), value.get("completion_tokens", 0)
    if not (isinstance(spent, int) and isinstance(made, int)) or min(spent, made) < 0:
        return None
    return Usage(spent, made)


def _estimated(body: Json, text: str) -> Usage:
    spent = sum(estimate_tokens(turn["content"]) for turn in body["messages"])
    return Usage(spent, estimate_tokens(text), estimated=True)


def _vectors(data: object, count: int) -> tuple[tuple[float, ...], ...] | None:
    """The vectors in the order of their index; None unless there are `count` of one length."""
    if not isinstance(data, list) or len(data) != count:
        return None
    found: dict[int, tuple[float, ...]] = {}
    for place, one in enumerate(data):
        vector: Any = one.get("embedding") if isinstance(one, dict) else None
        if not isinstance(vector, Sequence) or isinstance(vector, str) or not vector:
            return None
        if not all(isinstance(number, int | float) for number in vector):
            return None
        at = one.get("index", place)
        found[at if isinstance(at, int) else place] = tuple(map(float, vector))
    if sorted(found) != list(range(count)) or len({len(vector) for vector in found.values()}) != 1:
        return None
    return tuple(found[at] for at in range(count))
