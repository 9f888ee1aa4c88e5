"""What an agent answers: what its actions did, else what the text model says. And how a task ends by it."""

from __future__ import annotations

import logging
import time

from swarm.agent.hand import TurnInHand
from swarm.agent.models.types import TEXT_LARGE, TextReply, TextRequest
from swarm.agent.prompt import conversation, system_prompt
from swarm.errors import SwarmError
from swarm.records import Content, Memory, TaskOutcome

log = logging.getLogger(__name__)


async def respond(turn: TurnInHand) -> None:
    if turn.results:
        turn.response = _from_results(turn)
    elif turn.responds:
        turn.response = await _from_model(turn)
    if turn.response is not None:
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
    """The last result's data and everybody's words; a failure in one plain sentence."""
    last = turn.results[-1]
    words = [result.text for result in turn.results if result.text]
    if not last.success:
        words.append(last.error or last.reason or "The action failed.")
    data = (
        dict(last.data)
        if last.success
        else {**last.data, "success": False, "error": last.error or last.reason}
    )
    return Content(text="\n".join(words), data=data)


async def _from_model(turn: TurnInHand) -> Content:
    runtime = turn.runtime

    async def pass_on(piece: str) -> None:
        seq = turn.next_piece()
        mark = {"message_id": turn.message.id, "run_id": turn.run_id, "seq": seq, "final": False}
        await turn.say(Content(text=piece, metadata=mark))

    request = TextRequest(
        system=system_prompt(runtime.character, turn.state),
        messages=conversation(turn.state, runtime.name),
        user=turn.message.sender,
        on_chunk=pass_on,
    )
    try:
        reply = await runtime.models.use(TEXT_LARGE, request)
    except SwarmError as error:
        log.warning("no answer from the model: %s", error)
        runtime.metrics.count_failure("model", "text")
        return Content(text=f"I have no answer: {error}", data={"success": False, "error": str(error)})
    return Content(text=reply.text if isinstance(reply, TextReply) else str(reply))


def task_outcome(turn: TurnInHand) -> TaskOutcome | None:
    """How the task ends that this turn was an attempt at; None when it was none."""
    task = turn.message.task
    if task is None:
        return None
    if turn.rejected:
        return TaskOutcome(task, "rejected", error=turn.rejected)
    response = turn.response or Content()
    if response.data.get("success") is False:
        return TaskOutcome(task, "failed", error=str(response.data.get("error") or response.text))
    return TaskOutcome(task, "completed", result=response)
