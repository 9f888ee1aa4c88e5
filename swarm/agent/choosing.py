"""Which actions a message asks for (D1 to D3, X3).

A message that names actions, in ``data.action``, as its first word before a colon or as the whole goal of a
task, gets those or is told which there are. Otherwise every action whose `validate` passes and whose parameters
can be made from the message is a candidate, and selectors choose when there are two or more: the cheap one
first, and one that abstains or fails hands on to the next (`models/choice.py`). Whatever a model answers counts
only as an exact name or simile. The choice, its candidates and its confidence are recorded.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from swarm.agent.composing import know_history
from swarm.agent.containment import contained
from swarm.agent.hand import Chosen, TurnInHand
from swarm.agent.models.choice import MOST_STEPS, candidate, escalate, resolve
from swarm.agent.models.types import ChoiceReply, ChoiceRequest
from swarm.agent.models.types import Message as Said
from swarm.agent.parameters import parameters_for
from swarm.agent.prompt import conversation
from swarm.agent.storable import clean_text
from swarm.components import Action, ActionResult
from swarm.errors import PluginError, SwarmError, near
from swarm.settings import texts_of
from swarm.signatures import asks_for

log = logging.getLogger(__name__)

VALIDATE_SECONDS: Final = 5.0
CONTEXT_MESSAGES: Final = 6
"""What was said before, as far as a selector is told."""
MOST_SPOKEN: Final = 100
"""Characters of a goal that may be a name as a whole."""
_NAMED: Final = re.compile(r"\s*([A-Za-z][\w-]{1,63})\s*:")


async def choose(turn: TurnInHand) -> None:
    actions = turn.runtime.offered_actions
    if not actions or not turn.attends:
        return
    named = _named(turn)
    if named or turn.results:  # named, or the message named an action that there is not
        await _record(turn, Chosen(actions=tuple(named), outcome="named", confidence=1.0))
        await _plan(turn, named)
        return
    if any(asks_for(action.validate, "state") for action in actions.values()):
        await know_history(turn)
    candidates = await _candidates(turn, tuple(actions.values()))
    if not candidates and (misfit := _misfit(turn)) is not None:
        turn.results.append(ActionResult(False, error=misfit, reason="bad_parameters"))
        return
    reply, selector = await _select(turn, candidates)
    chosen = Chosen(
        actions=reply.names,
        outcome=reply.outcome,
        selector=selector,
        confidence=round(reply.confidence, 3),
        candidates=tuple(action.name for action in candidates),
    )
    await _record(turn, chosen)
    first_used = [name for name in reply.names if name not in turn.runtime.actions]
    await _plan(turn, reply.names)
    fresh = [action for action in turn.plan if action.name in first_used]
    if any([await _candidate(turn, action) is None for action in fresh]):
        turn.plan = ()
        await choose(turn)  # now that its plugin is loaded its `validate` says no; each round loads one more


async def _select(turn: TurnInHand, candidates: list[Action]) -> tuple[ChoiceReply, str]:
    settings = turn.runtime.get_setting("choice")
    settings = settings if isinstance(settings, Mapping) else {}
    if len(candidates) > 1:
        looks = any(asks_for(action.handler, "state") for action in candidates)
        await know_history(turn, None if looks else CONTEXT_MESSAGES)
    request = ChoiceRequest(
        text=turn.message.text,
        candidates=tuple(candidate(action) for action in candidates),
        context=_before(turn) if len(candidates) > 1 else (),
    )
    try:
        return await escalate(
            turn.runtime.models,
            request,
            selectors=texts_of(settings.get("selectors")),
            always=settings.get("always") is True,
        )
    except SwarmError as error:
        log.warning("no action was chosen: %s", error)
        turn.runtime.metrics.count_failure("model", "choice")
        return ChoiceReply(name=None, outcome="failed"), ""


def _before(turn: TurnInHand) -> tuple[Said, ...]:
    """What was said before the message in hand."""
    return conversation(turn.state.messages[-CONTEXT_MESSAGES - 1 : -1], turn.runtime.name)


async def _record(turn: TurnInHand, chosen: Chosen) -> None:
    turn.choice = chosen
    await turn.runtime.events.emit(
        "choice:made",
        message=turn.message,
        run_id=turn.run_id,
        candidates=chosen.candidates,
        chosen=chosen.actions,
        outcome=chosen.outcome,
        selector=chosen.selector,
        confidence=chosen.confidence,
    )


async def _plan(turn: TurnInHand, names: Sequence[str]) -> None:
    """Plan the actions; on its first use an action's plugin is loaded. One that cannot be is a failed action,
    and nothing of the plan is begun."""
    plan: list[Action] = []
    for name in names:
        try:
            action = await turn.runtime.get_action(name)
        except PluginError as error:
            turn.results.append(ActionResult(False, error=clean_text(str(error)), reason="plugin_failed"))
            return
        if action is not None:
            plan.append(action)
    turn.plan = tuple(plan)


def _named(turn: TurnInHand) -> list[str]:
    """The actions that the message names outright. A program's `data.action` that names none is an error."""
    actions = turn.runtime.offered_actions
    wanted = turn.message.content.data.get("action")
    spoken = _spoken(turn)
    if wanted is None and not spoken:
        return []
    candidates = [candidate(action) for action in actions.values()]
    if isinstance(wanted, str):
        wanted = [wanted]
    if wanted is not None and not isinstance(wanted, list):
        sentence = (
            f"`action` in a message's data is the name of an action or a list of names, not {wanted!r}."
        )
        turn.results.append(ActionResult(False, error=clean_text(sentence[:400]), reason="unknown_action"))
        return []
    if isinstance(wanted, list) and len(wanted) > MOST_STEPS:
        sentence = f"A plan of {len(wanted)} actions is too long; at most {MOST_STEPS} run for one message."
        turn.results.append(ActionResult(False, error=sentence, reason="too_many"))
        return []
    if isinstance(wanted, list) and wanted:
        names = [(one, resolve(str(one), candidates)) for one in wanted]
        for one, name in names:
            if name is None:
                sentence = (
                    f"There is no action {one!r}{near(str(one), actions)} There are: {', '.join(actions)}."
                )
                turn.results.append(ActionResult(False, error=sentence, reason="unknown_action"))
                return []
        return [name for _, name in names if name is not None]
    name = resolve(spoken, candidates)
    return [name] if name else []


def _spoken(turn: TurnInHand) -> str:
    """What may be an action's name: the first word before a colon; of a task, whose goal is often no more than
    that, the whole text."""
    text = turn.message.text
    if (mark := _NAMED.match(text)) is not None:
        return mark.group(1)
    return text if turn.message.task is not None and len(text) <= MOST_SPOKEN else ""


def _misfit(turn: TurnInHand) -> str | None:
    """What is wrong with a task's input when no action takes it: a task that nobody can do must not complete
    with small talk."""
    if turn.message.task is None or not turn.message.given:
        return None
    errors = [
        error
        for action in turn.runtime.offered_actions.values()
        if action.parameters is not None and (error := parameters_for(action, turn.message).error)
    ]
    return " ".join(errors) or None


async def _candidates(turn: TurnInHand, actions: Sequence[Action]) -> list[Action]:
    """Those that can be taken now, in their order. Validators run beside each other; most actions have none."""
    if all(action.validate is None for action in actions):
        return [action for action in actions if _fits(turn, action)]
    found = await asyncio.gather(*(_candidate(turn, action) for action in actions))
    return [action for action in found if action is not None]


def _fits(turn: TurnInHand, action: Action) -> bool:
    """Whether its parameters can be made from the message."""
    return action.parameters is None or parameters_for(action, turn.message).error is None


async def _candidate(turn: TurnInHand, action: Action) -> Action | None:
    """The action if it can be taken now. No validator means valid; one that raises or hangs means not."""
    if not _fits(turn, action):
        return None
    if action.validate is None:
        return action
    given: dict[str, Any] = {"runtime": turn.runtime, "message": turn.message, "state": turn.state}
    outcome = await contained(
        turn.runtime, "validate", action.name, action.validate, given, seconds=VALIDATE_SECONDS, read=bool
    )
    return action if outcome.value else None
