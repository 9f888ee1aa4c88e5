"""Running the chosen actions (D4 to D9, P12, P13), each in its own bounds.

A plan runs in order, and each step is told what the earlier ones did. A failed action is a failure: its
result says so and the message still gets an answer; whether the rest of the plan runs is the action's
policy, else its plugin's. A hook that returns False, or raises, blocks the action; `after_action` is told
of failures too, and cannot turn a success into one.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm.agent.bounded import TookTooLong, call_bounded
from swarm.agent.composing import know_history
from swarm.agent.containment import contained
from swarm.agent.hand import Asking, TurnInHand
from swarm.agent.hooks import HOOK_SECONDS
from swarm.agent.parameters import parameters_for
from swarm.agent.storable import Unstorable, clean_text, describe, storable
from swarm.components import Action, ActionOptions, ActionResult
from swarm.errors import TryAgain
from swarm.records import Content
from swarm.signatures import asks_for

log = logging.getLogger(__name__)

ERROR_CHARS: Final = 2000


async def act(turn: TurnInHand) -> None:
    """Run the plan in order; a failure ends it unless its action may fail."""
    steps = len(turn.plan)
    for step, action in enumerate(turn.plan):
        result = await run_action(turn, action, step)
        turn.results.append(result)
        if turn.asking is not None:
            break
        if not result.success and _on_failure(turn, action) == "abort":
            await _skip(turn, turn.plan[step + 1 :], step + 1, steps, because=action.name)
            break


async def run_action(turn: TurnInHand, action: Action, step: int = 0) -> ActionResult:
    """One action with its hooks. `execution_time` (ms) is set on every path. Only cancellation escapes."""
    began = time.perf_counter()
    result = await _traced(turn, action, step)
    result = dataclasses.replace(result, execution_time=(time.perf_counter() - began) * 1000)
    owner = turn.runtime.registry.owner_of("action", action.name)
    turn.runtime.metrics.count_action(action.name, result, owner)
    if not result.success:
        log.info(
            "action %s failed in %.0f ms: %s (plugin %s)",
            action.name,
            result.execution_time,
            result.error or result.reason,
            owner or "none",
        )
    else:  # a line for each action would cost a tenth of an ask; metrics and events tell of them anyway
        log.debug("action %s succeeded in %.0f ms", action.name, result.execution_time)
    if result.reason != "Blocked by plugin":
        await _after_action(turn, action, result)
    await turn.runtime.events.emit(
        "action:ended",
        action=action.name,
        result=result,
        message=turn.message,
        run_id=turn.run_id,
        step=step,
        steps=max(len(turn.plan), step + 1),
    )
    return result


async def _traced(turn: TurnInHand, action: Action, step: int) -> ActionResult:
    attributes = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": action.name}
    with turn.runtime.tracer.span(f"execute_tool {action.name}", attributes=attributes) as span:
        result = await _blocked(turn, action) or await _run(turn, action, step)
        if not result.success:
            span.fail(result.reason or "failed")
        return result


def _on_failure(turn: TurnInHand, action: Action) -> str:
    if action.on_failure is not None:
        return action.on_failure
    owner = turn.runtime.registry.owner_of("action", action.name)
    return next((one.on_action_failure for one in turn.runtime.plugins if one.name == owner), "abort")


async def _skip(turn: TurnInHand, rest: Sequence[Action], first: int, steps: int, *, because: str) -> None:
    for step, action in enumerate(rest, first):
        await turn.runtime.events.emit(
            "action:skipped",
            action=action.name,
            message=turn.message,
            run_id=turn.run_id,
            step=step,
            steps=steps,
            because=because,
        )


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


async def _run(turn: TurnInHand, action: Action, step: int) -> ActionResult:
    parameters = parameters_for(action, turn.message)
    if parameters.error is not None:
        return ActionResult(False, error=parameters.error, reason="bad_parameters")
    if asks_for(action.handler, "state"):
        await know_history(turn)
    await turn.runtime.events.emit(
        "action:started",
        action=action.name,
        message=turn.message,
        run_id=turn.run_id,
        step=step,
        steps=max(len(turn.plan), step + 1),
    )
    done = False

    async def callback(piece: str | Mapping[str, Any] | Content, *, final: bool = False) -> None:
        """Send a piece of the answer as it is made. `final`: this action says no more."""
        nonlocal done
        if done:
            log.warning("action %s said that it was done; a later piece is dropped", action.name)
            return
        done = final
        await turn.pieces.say(as_content(piece), action.name)

    given = {
        "runtime": turn.runtime,
        "message": turn.message,
        "state": turn.state,
        "options": ActionOptions(
            parameters.value, tuple(turn.results), turn.mint("effect", f"{action.name}.{len(turn.results)}")
        ),
        "callback": callback,
    }
    try:
        return _kept(action, as_result(await call_bounded(action.handler, given, action.timeout)))
    except Asking as asking:
        turn.asking = asking
        return ActionResult(True, text=asking.question, reason="input_required")
    except TryAgain as failure:
        log.info("action %s asks for another attempt: %s", action.name, failure)
        turn.again = failure
        return ActionResult(
            False, error=turn.runtime.redaction(clean_text(failure.text[:ERROR_CHARS])), reason="try_again"
        )
    except TookTooLong:
        return ActionResult(
            False, error=f"Action {action.name} took longer than {action.timeout:g} s.", reason="timeout"
        )
    except Unstorable as refused:
        return ActionResult(False, error=clean_text(refused.text[:ERROR_CHARS]), reason=refused.reason)
    except Exception as failure:
        log.warning("action %s raised", action.name, exc_info=True)
        return ActionResult(False, error=turn.runtime.redaction(describe(failure)), reason="exception")


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


def _kept(action: Action, result: ActionResult) -> ActionResult:
    """The result as it can be stored and sent. Raises Unstorable when it cannot."""
    text, data = storable(f"What action {action.name} returned", result.text, result.data)
    return dataclasses.replace(
        result,
        success=bool(result.success),
        text=text,
        data=data,
        error=None if result.error is None else clean_text(str(result.error)[:ERROR_CHARS]),
        reason=None if result.reason is None else clean_text(str(result.reason)[:ERROR_CHARS]),
    )


def as_content(value: str | Mapping[str, Any] | Content) -> Content:
    """What a handler says, as content: a text, a mapping with `text` and `data`, or content itself."""
    match value:
        case Content():
            return value
        case str():
            return Content(text=value)
        case Mapping():
            return Content(text=str(value.get("text") or ""), data=dict(value.get("data") or {}))
    raise Unstorable(
        f"A piece of an answer must be a text, a mapping or a Content, not {type(value).__name__}.",
        reason="bad_result",
    )


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
