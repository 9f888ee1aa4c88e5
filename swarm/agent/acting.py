"""Running the chosen actions (D4 to D9, P12, P13), each in its own bounds.

A failed action is a failure: its result says so and the message still gets an answer. A hook that
returns False, or raises, blocks the action; `after_action` is told of failures too, and cannot turn a
success into one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any, Final

from swarm.agent.containment import contained
from swarm.agent.hand import TurnInHand
from swarm.agent.hooks import HOOK_SECONDS
from swarm.agent.parameters import parameters_for
from swarm.components import Action, ActionOptions, ActionResult, call_handler
from swarm.records import Content

log = logging.getLogger(__name__)

ERROR_CHARS: Final = 2000


async def act(turn: TurnInHand) -> None:
    """Run the plan in order; a failure ends it."""
    for action in turn.plan:
        result = await run_action(turn, action)
        turn.results.append(result)
        if not result.success:
            break


async def run_action(turn: TurnInHand, action: Action) -> ActionResult:
    """One action with its hooks. `execution_time` (ms) is set on every path. Only cancellation escapes."""
    began = time.perf_counter()
    result = await _blocked(turn, action) or await _run(turn, action)
    result = dataclasses.replace(result, execution_time=(time.perf_counter() - began) * 1000)
    turn.runtime.metrics.count_action(
        action.name, result, turn.runtime.registry.owner_of("action", action.name)
    )
    log.info(
        "action %s %s in %.0f ms%s",
        action.name,
        "succeeded" if result.success else "failed",
        result.execution_time,
        f": {result.error or result.reason}" if not result.success else "",
    )
    if result.reason != "Blocked by plugin":
        await _after_action(turn, action, result)
    return result


async def _blocked(turn: TurnInHand, action: Action) -> ActionResult | None:
    for plugin in turn.runtime.plugins:
        if plugin.before_action is None:
            continue
        outcome = await contained(
            turn.runtime,
            "hook",
            f"{plugin.name}.before_action",
            plugin.before_action,
            {"action": action, "message": turn.message, "runtime": turn.runtime},
            seconds=HOOK_SECONDS,
        )
        if outcome.error is not None or outcome.value is False:
            return ActionResult(
                False,
                reason="Blocked by plugin",
                plugin=plugin.name,
                error=outcome.error or "Blocked by plugin",
            )
    return None


async def _run(turn: TurnInHand, action: Action) -> ActionResult:
    parameters = parameters_for(action, turn.message)
    if parameters.error is not None:
        return ActionResult(False, error=parameters.error, reason="bad_parameters")
    events, run_id = turn.runtime.events, turn.run_id
    await events.emit("action:started", action=action.name, message=turn.message, run_id=run_id)

    async def callback(piece: str | Mapping[str, Any] | Content, *, final: bool = False) -> None:
        """Send a piece of the answer as it is made; pieces arrive in order, numbered."""
        content, seq = as_content(piece), turn.next_piece()
        mark = {"message_id": turn.message.id, "run_id": run_id, "seq": seq, "final": final}
        await turn.say(Content(text=content.text, data=content.data, metadata={**content.metadata, **mark}))
        await events.emit("action:response", action=action.name, response=content, **mark)

    given = {
        "runtime": turn.runtime,
        "message": turn.message,
        "state": turn.state,
        "options": ActionOptions(
            parameters.value, tuple(turn.results), turn.mint("effect", f"{action.name}.{len(turn.results)}")
        ),
        "callback": callback,
    }
    late = asyncio.timeout(action.timeout)
    try:
        async with late:
            return as_result(await call_handler(action.handler, given))
    except Exception as failure:
        if isinstance(failure, TimeoutError) and late.expired():  # not one of the handler's own
            error = f"Action {action.name} took longer than {action.timeout:g} s."
            return ActionResult(False, error=error, reason="timeout")
        log.warning("action %s failed", action.name, exc_info=True)
        return ActionResult(
            False, error=f"{type(failure).__name__}: {failure}"[:ERROR_CHARS], reason="exception"
        )


async def _after_action(turn: TurnInHand, action: Action, result: ActionResult) -> None:
    for plugin in turn.runtime.plugins:
        if plugin.after_action is not None:
            await contained(
                turn.runtime,
                "hook",
                f"{plugin.name}.after_action",
                plugin.after_action,
                {"action": action, "result": result, "message": turn.message, "runtime": turn.runtime},
                seconds=HOOK_SECONDS,
            )
    await turn.runtime.events.emit(
        "action:ended", action=action.name, result=result, message=turn.message, run_id=turn.run_id
    )


def as_content(value: str | Mapping[str, Any] | Content) -> Content:
    """What a handler says, as content: a text, a mapping with `text` and `data`, or content itself."""
    match value:
        case Content():
            return value
        case str():
            return Content(text=value)
    return Content(text=str(value.get("text") or ""), data=dict(value.get("data") or {}))


def as_result(value: Any) -> ActionResult:
    """What a handler returned, as a result. A ``success`` of False is a failure, in whatever shape."""
    match value:
        case ActionResult():
            return value
        case None:
            return ActionResult(True)
        case str():
            return ActionResult(True, text=value)
        case Content():
            return ActionResult(True, text=value.text, data=value.data)
        case {"success": False}:
            error = value.get("error") or value.get("reason") or "The action said that it failed."
            return ActionResult(False, text=str(value.get("text") or ""), data=_data(value), error=str(error))
        case Mapping():
            return ActionResult(True, text=str(value.get("text") or ""), data=_data(value))
    return ActionResult(
        False,
        error=f"The action returned {type(value).__name__}; it should return text, a mapping or an ActionResult.",
        reason="bad_result",
    )


def _data(value: Mapping[str, Any]) -> dict[str, Any]:
    inner = value.get("data")
    if isinstance(inner, Mapping):
        return dict(inner)
    return {key: item for key, item in value.items() if key not in ("success", "text", "error", "reason")}
