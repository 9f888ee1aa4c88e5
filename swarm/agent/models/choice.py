"""From a model's answer to an action: exactly, or not at all.

elizaOS matched parts of names: the answer ``ACT`` ran ``BENCH_ACT_0``. Here an answer names an action
by its whole name or by one of its whole similes, and whatever else a model says runs nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.types import CHOICE, Candidate, ChoiceReply, ChoiceRequest, Message
from swarm.errors import ModelError, SwarmError

if TYPE_CHECKING:
    from swarm.components import Action

log = logging.getLogger(__name__)

LOCAL: Final = "local"
SURE: Final = 0.8
"""How sure the local selector must be where a model could be asked instead."""
MOST_STEPS: Final = 8
"""Actions of one plan; what a model names beyond is left out."""

_WRAPPING = " \t\r\n\"'`*<>()[]“”‘’.,!:;"
_JOINTS = re.compile(r"[\s_-]+")


def resolve(answer: str, candidates: Sequence[Candidate]) -> str | None:
    """The name of the candidate that `answer` names, or None.

    The exact name is looked for first, then the name whatever its case and joints (``send mail`` is
    SEND_MAIL), then similes in the same two steps. Quotes and end marks around the answer do not
    count. A simile that two candidates share names neither.
    """
    plain = answer.strip(_WRAPPING)
    if not plain:
        return None
    loose = _loose(plain)
    steps = (
        lambda one: plain == one.name,
        lambda one: loose == _loose(one.name),
        lambda one: plain in one.similes,
        lambda one: loose in map(_loose, one.similes),
    )
    for matches in steps:
        found = _distinct(one.name for one in candidates if matches(one))
        if found:
            return found[0] if len(found) == 1 else None
    return None


async def choose(
    registry: ModelRegistry, request: ChoiceRequest, *, always: bool = False, provider: str | None = None
) -> ChoiceReply:
    """Choose among the candidates; a model is asked only when there are two or more.

    With `always` it is asked for a single one too, and may abstain. Whatever the handler answers is
    resolved once more against the candidates, so that no plugin's model can name what is not there.
    """
    if not request.candidates:
        return ChoiceReply(name=None, outcome="empty")
    if len(request.candidates) == 1 and not always:
        return ChoiceReply(name=request.candidates[0].name, outcome="only", confidence=1.0)
    reply = await _ask(registry, request, provider)
    checked = _checked(reply, request.candidates)
    if checked.outcome != "unresolved" or reply.name is None:  # a handler that says so has asked again itself
        return checked
    log.warning(
        "A model chose %r, which is no candidate; it is told once which there are.", checked.answer[:80]
    )
    try:
        again = _checked(
            await _ask(registry, _corrected(request, checked.answer), provider), request.candidates
        )
    except SwarmError as error:
        log.warning("It could not be asked again: %s", error)
        return checked
    return msgspec.structs.replace(again, usage=reply.usage + again.usage)


async def escalate(
    registry: ModelRegistry,
    request: ChoiceRequest,
    *,
    selectors: Sequence[str] = (),
    always: bool = False,
) -> tuple[ChoiceReply, str]:
    """Choose, asking one selector after the other until one chooses: the reply, and who gave it.

    `selectors` are providers in the order to be asked. By default the cheap local one comes before a
    model, if it is sure; a model registered above priority 0 wants to be the first, and then the local one is
    not asked. One that fails hands on, too; when all others failed, what the local one would have chosen
    stands. Raises ModelError when none could be asked at all.
    """
    if not request.candidates or (len(request.candidates) == 1 and not always):
        return await choose(registry, request), ""
    order = tuple(selectors) or _in_order(registry)
    unsure: tuple[ChoiceReply, str] | None = None
    last: tuple[ChoiceReply, str] | None = None
    failure: SwarmError | None = None
    for place, provider in enumerate(order):
        try:
            reply = await choose(registry, request, always=always, provider=provider)
        except SwarmError as error:
            log.warning("the selector %s failed, the next is asked: %s", provider, error)
            failure = error
            continue
        if reply.name is None:
            last = reply, provider
        elif provider == LOCAL and reply.confidence < SURE and place + 1 < len(order):
            unsure = reply, provider
        else:
            return reply, provider
    if last is not None and (unsure is None or last[1] != LOCAL):
        return last  # a better judge said that none of them fits
    if unsure is not None:
        return unsure
    raise failure or ModelError("There is no selector to choose an action: name one in choice.selectors.")


def _in_order(registry: ModelRegistry) -> tuple[str, ...]:
    """The providers that choose, in the order in which they are asked."""
    registered = registry.models.get(CHOICE, ())
    others = [one for one in registered if one.provider != LOCAL]
    first = [one.provider for one in others if one.priority > 0]
    if first or len(others) == len(registered):
        return tuple(dict.fromkeys(one.provider for one in others))
    return tuple(dict.fromkeys([LOCAL, *(one.provider for one in others)]))


async def _ask(registry: ModelRegistry, request: ChoiceRequest, provider: str | None) -> ChoiceReply:
    reply = await registry.use(CHOICE, request, provider)
    if not isinstance(reply, ChoiceReply):
        raise ModelError(
            f"A choice model must return a ChoiceReply, not {reply.__class__.__name__}.", reason="bad_reply"
        )
    return reply


def _checked(reply: ChoiceReply, candidates: Sequence[Candidate]) -> ChoiceReply:
    """The reply with every name resolved, or nothing chosen: half a plan is another plan."""
    if reply.name is None:
        return reply
    found: list[str] = []
    for said in reply.names[:MOST_STEPS]:
        name = resolve(str(said), candidates)
        if name is None:
            return msgspec.structs.replace(
                reply,
                name=None,
                plan=(),
                outcome="unresolved",
                confidence=0.0,
                answer=reply.answer or str(said),
            )
        found.append(name)
    plan = tuple(_distinct(found))
    return msgspec.structs.replace(reply, name=plan[0], plan=plan if len(plan) > 1 else ())


def _corrected(request: ChoiceRequest, answer: str) -> ChoiceRequest:
    """The same question, after being told that the answer names nothing."""
    names = ", ".join(one.name for one in request.candidates)
    said = (
        Message("user", request.text or " "),
        Message("assistant", answer[:200] or " "),
        Message("user", f"{answer[:80]!r} is not one of the actions. The valid ones are: {names}."),
    )
    return msgspec.structs.replace(request, context=(*request.context, *said))


def candidate(action: Action) -> Candidate:
    """An action as a candidate. Of an example conversation (elizaOS's shape) the first turn counts: it
    is what a user says; an example in no known shape says nothing and is left out.
    """
    examples = (_said(one) for one in action.examples)
    return Candidate(action.name, action.description, tuple(action.similes), tuple(filter(None, examples)))


def _said(example: object) -> str:
    match example:
        case str():
            return example
        case {"content": {"text": str(text)}} | {"content": str(text)} | {"text": str(text)}:
            return text
        case {"examples": [first, *_]} | [first, *_]:
            return _said(first)
    return ""


def _loose(text: str) -> str:
    return _JOINTS.sub(" ", text.casefold()).strip()


def _distinct(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
