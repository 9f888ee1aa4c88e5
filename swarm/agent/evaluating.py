"""Evaluators look at a finished turn, off its path: no message waits for one (D16 to D19)."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from swarm.agent.committing import commit_late
from swarm.agent.containment import contained, tell_failure
from swarm.agent.hand import TurnInHand
from swarm.agent.storable import ERROR_CHARS, Unstorable, cut_text, plain_value
from swarm.components import Evaluator
from swarm.records import Content, Memory

log = logging.getLogger(__name__)

GUARD_SECONDS: Final = 5.0


def evaluate(turn: TurnInHand) -> None:
    """Hand the turn to its evaluators and go on; the runtime owns their task and bounds how many run."""
    if turn.runtime.evaluators:
        turn.runtime.in_background(_evaluate(turn), "evaluators")


async def _evaluate(turn: TurnInHand) -> None:
    """In the turn's context, so that what evaluators say and spend is the turn's; written when all have ended."""
    evaluators = turn.runtime.evaluators
    said = await asyncio.gather(*(_run(turn, evaluator) for evaluator in evaluators))
    results = {
        evaluator.name: one for evaluator, one in zip(evaluators, said, strict=True) if one is not None
    }
    for name, one in results.items():
        data = {"message": turn.message.id, "run": turn.run_id, **one}
        turn.memories.append(
            Memory(
                id=turn.mint("evaluation", name),
                room=turn.message.room,
                entity=name,
                kind="evaluation",
                content=Content(data=data),
                created_at=turn.message.received_at,
            )
        )
    if turn.outgoing:
        await commit_late(turn)  # somebody waits for what was said
    elif turn.memories:
        turn.runtime.findings.add(tuple(turn.memories))
        turn.memories.clear()
    await turn.runtime.events.emit("evaluation:ended", message=turn.message, results=results)


async def _run(turn: TurnInHand, evaluator: Evaluator) -> dict[str, Any] | None:
    """`{success, data | error}`, or None when the evaluator did not want to run."""
    given = {
        "runtime": turn.runtime,
        "message": turn.message,
        "state": turn.state,
        "response": turn.response,
        "responses": [] if turn.response is None else [turn.response],
    }
    wants = evaluator.always_run
    if not wants and evaluator.should_run is not None:
        asked = await contained(
            turn.runtime,
            "evaluator",
            evaluator.name,
            evaluator.should_run,
            given,
            seconds=GUARD_SECONDS,
            read=bool,
        )
        wants = bool(asked.value)
    elif not wants:
        wants = turn.response is not None
    if wants and evaluator.validate is not None:
        valid = await contained(
            turn.runtime,
            "evaluator",
            evaluator.name,
            evaluator.validate,
            given,
            seconds=GUARD_SECONDS,
            read=bool,
        )
        wants = bool(valid.value)
    if not wants:
        return None
    outcome = await contained(
        turn.runtime, "evaluator", evaluator.name, evaluator.handler, given, seconds=evaluator.timeout
    )
    if outcome.error is not None:
        return {"success": False, "error": cut_text(outcome.error, ERROR_CHARS)}
    try:
        return {"success": True, "data": plain_value(f"What evaluator {evaluator.name} found", outcome.value)}
    except Unstorable as refused:
        await tell_failure(turn.runtime, "evaluator", evaluator.name, refused.text)
        return {"success": False, "error": refused.text}
