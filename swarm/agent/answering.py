"""What an agent answers: what its actions did, else what the text model says. And how a task ends by it."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

import msgspec

from swarm.agent.composing import know_history
from swarm.agent.hand import TurnInHand, say_nothing
from swarm.agent.models.types import TEXT_LARGE, TextRequest
from swarm.agent.prompt import conversation, system_prompt
from swarm.agent.storable import MAX_BYTES, clean_text, cut_text, size_of
from swarm.errors import SwarmError
from swarm.records import Content, Memory, TaskOutcome

log = logging.getLogger(__name__)

MOST_CHARACTERS: Final = MAX_BYTES // 4
"""Of a response's text: with its data it must fit into one message."""
MOST_CANDIDATES: Final = 32
"""Names of candidates that are kept with a choice."""


async def respond(turn: TurnInHand) -> None:
    if turn.results:
        turn.response = _from_results(turn)
    elif turn.responds:
        turn.response = await _from_model(turn)
    if turn.response is not None:
        turn.response = _marked(turn, turn.response)
        turn.memories.append(
            Memory(
                id=turn.mint("memory", "out"),
                room=turn.message.room,
                entity=turn.runtime.name,
                content=turn.response,
                created_at=int(time.time() * 1000),
            )
        )


def _from_results(turn: TurnInHand) -> Content:
    """The last result's data and everybody's words in order; a failure in one plain sentence."""
    last = turn.results[-1]
    words: list[str] = []
    for result in turn.results:
        words.extend([result.text] if result.text else [])
        words.extend([] if result.success else [result.error or result.reason or "The action failed."])
    data = (
        dict(last.data)
        if last.success
        else {**last.data, "success": False, "error": last.error or last.reason}
    )
    text = "\n".join(words)
    size = size_of(text, data)
    if size <= MAX_BYTES:
        return Content(text=text, data=data)
    if turn.message.task is not None:
        error = (
            f"The result has {size:,} bytes and at most {MAX_BYTES:,} fit; put it in a file or the store and say "
            "where it is."
        )
        return Content(text=error, data={"success": False, "error": error})
    return Content(text=cut_text(text, MOST_CHARACTERS), data=data)


def _marked(turn: TurnInHand, response: Content) -> Content:
    """The response with what is recorded of its making: run, choice, steps, tokens and cost."""
    made: dict[str, Any] = {"run_id": turn.run_id}
    if turn.choice is not None and (turn.choice.actions or turn.choice.outcome not in ("empty", "named")):
        made["choice"] = {
            "actions": list(turn.choice.actions),
            "outcome": turn.choice.outcome,
            "selector": turn.choice.selector,
            "confidence": turn.choice.confidence,
            "candidates": list(turn.choice.candidates[:MOST_CANDIDATES]),
        }
    if len(turn.plan) > 1:
        made["steps"] = [
            {
                "action": action.name,
                "success": result.success,
                "milliseconds": round(result.execution_time, 1),
            }
            for action, result in zip(turn.plan, turn.results, strict=False)
        ]
    if turn.spent.calls:
        made["usage"] = turn.spent.report()
    return msgspec.structs.replace(response, metadata={**response.metadata, **made})


async def _from_model(turn: TurnInHand) -> Content:
    runtime = turn.runtime
    await know_history(turn)

    async def pass_on(piece: str) -> None:
        await turn.pieces.say(Content(text=piece))

    request = TextRequest(
        system=system_prompt(runtime.character, turn.state),
        messages=conversation(turn.state.messages, runtime.name),
        user=turn.message.sender,
        on_chunk=None if turn.say is say_nothing else pass_on,
    )
    try:
        text = await runtime.models.use_text(TEXT_LARGE, request)
    except SwarmError as error:
        log.warning("no answer from the model: %s", error)
        runtime.metrics.count_failure("model", "text")
        said = clean_text(str(error))
        return Content(text=f"I have no answer: {said}", data={"success": False, "error": said})
    return Content(text=cut_text(clean_text(text), MOST_CHARACTERS))


def task_outcome(turn: TurnInHand) -> TaskOutcome | None:
    """How the task ends that this turn was an attempt at; None when it was none."""
    task = turn.message.task
    if task is None:
        return None
    if turn.rejected:
        return TaskOutcome(task, "rejected", error=turn.rejected)
    if turn.asking is not None:
        plan = tuple(action.name for action in turn.plan)
        asked = turn.asking
        return TaskOutcome(task, "input-required", question=asked.question, schema=asked.schema, actions=plan)
    response = turn.response or Content()
    if response.data.get("success") is False:
        error = str(response.data.get("error") or response.text)
        last = turn.results[-1].reason if turn.results else None
        if turn.again is None or last != "try_again":
            return TaskOutcome(task, "failed", error=error)
        after = turn.again.after
        wait = None if after is None else int(max(0.0, min(after, 3600.0)) * 1000)
        return TaskOutcome(task, "failed", error=error, retryable=True, retry_ms=wait)
    return TaskOutcome(task, "completed", result=response)
