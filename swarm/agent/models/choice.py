"""From a model's answer to an action: exactly, or not at all.

elizaOS matched parts of names: the answer ``ACT`` ran ``BENCH_ACT_0``. Here an answer names an action
by its whole name or by one of its whole similes, and whatever else a model says runs nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.types import CHOICE, Candidate, ChoiceReply, ChoiceRequest
from swarm.errors import ModelError

if TYPE_CHECKING:
    from swarm.components import Action

log = logging.getLogger(__name__)

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
    reply = await registry.use(CHOICE, request, provider)
    if not isinstance(reply, ChoiceReply):
        raise ModelError(
            f"A choice model must return a ChoiceReply, not {reply.__class__.__name__}.", reason="bad_reply"
        )
    if reply.name is None:
        return reply
    name = resolve(reply.name, request.candidates)
    if name is None:
        log.warning("A model chose %r, which is no candidate; nothing runs.", reply.name[:80])
        return msgspec.structs.replace(
            reply, name=None, outcome="unresolved", confidence=0.0, answer=reply.answer or reply.name
        )
    return msgspec.structs.replace(reply, name=name)


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
