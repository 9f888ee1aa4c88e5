"""Which action a message asks for (D1 to D3).

A message that names an action, in ``data.action`` or as its first word before a colon, gets that one
or is told which there are. Otherwise every action whose `validate` passes and whose parameters can be
made from the message is a candidate, and a model chooses when there are two or more. Whatever a model
answers counts only as an exact name or simile.
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any, Final

from swarm.agent.containment import contained
from swarm.agent.hand import TurnInHand
from swarm.agent.models.choice import candidate, resolve
from swarm.agent.models.choice import choose as choose_by_model
from swarm.agent.models.types import ChoiceRequest
from swarm.agent.parameters import parameters_for
from swarm.components import Action, ActionResult
from swarm.errors import PluginError, SwarmError, near

log = logging.getLogger(__name__)

VALIDATE_SECONDS: Final = 5.0
_NAMED = re.compile(r"\s*([A-Za-z][\w-]{1,63})\s*:")


async def choose(turn: TurnInHand) -> None:
    actions = turn.runtime.offered_actions
    if not actions:
        return
    named = _named(turn)
    if named is not None:
        await _plan(turn, named.name)
        return
    if turn.results:  # the message named an action that there is not
        return
    candidates = [
        action
        for action in await asyncio.gather(*(_candidate(turn, action) for action in actions.values()))
        if action is not None
    ]
    request = ChoiceRequest(
        text=turn.message.text, candidates=tuple(candidate(action) for action in candidates)
    )
    try:
        reply = await choose_by_model(turn.runtime.models, request)
    except SwarmError as error:
        log.warning("no action was chosen: %s", error)
        turn.runtime.metrics.count_failure("model", "choice")
        return
    await turn.runtime.events.emit(
        "choice:made",
        message=turn.message,
        candidates=tuple(action.name for action in candidates),
        chosen=reply.name,
        outcome=reply.outcome,
        confidence=reply.confidence,
    )
    if reply.name is None:
        return
    first_use = reply.name not in turn.runtime.actions
    await _plan(turn, reply.name)
    if first_use and turn.plan and await _candidate(turn, turn.plan[0]) is None:
        turn.plan = ()
        await choose(turn)  # now that its plugin is loaded its `validate` says no; each round loads one more


async def _plan(turn: TurnInHand, name: str) -> None:
    """Plan the action; on its first use its plugin is loaded, and one that cannot be is a failed action."""
    try:
        action = await turn.runtime.get_action(name)
    except PluginError as error:
        turn.results.append(ActionResult(False, error=str(error), reason="plugin_failed"))
        return
    turn.plan = (action,) if action is not None else ()


def _named(turn: TurnInHand) -> Action | None:
    """The action that the message names outright. A program's `data.action` that names none is an error."""
    actions = turn.runtime.offered_actions
    candidates = [candidate(action) for action in actions.values()]
    wanted = turn.message.content.data.get("action")
    if isinstance(wanted, str):
        name = resolve(wanted, candidates)
        if name is None:
            sentence = (
                f"There is no action {wanted!r}{near(wanted, actions)} There are: {', '.join(actions)}."
            )
            turn.results.append(ActionResult(False, error=sentence, reason="unknown_action"))
        return actions[name] if name else None
    mark = _NAMED.match(turn.message.text)
    name = resolve(mark.group(1), candidates) if mark else None
    return actions[name] if name else None


async def _candidate(turn: TurnInHand, action: Action) -> Action | None:
    """The action if it can be taken now. No validator means valid; one that raises or hangs means not."""
    if action.parameters is not None and parameters_for(action, turn.message).error is not None:
        return None
    if action.validate is None:
        return action
    given: dict[str, Any] = {"runtime": turn.runtime, "message": turn.message, "state": turn.state}
    outcome = await contained(
        turn.runtime, "validate", action.name, action.validate, given, seconds=VALIDATE_SECONDS
    )
    return action if outcome.value else None
