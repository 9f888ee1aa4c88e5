"""Is the agent meant? Whether it takes part in a message at all, and whether an answer is called for (X2).

Asks and tasks want an answer; a tell or an announcement may start an action but never gets an answer that
nobody wrote (docs/design.md says why). In a room of two the agent is always meant. In a group (the room's
name begins with ``group:``, or the message's metadata has ``group``) it is meant when it is mentioned, replied to or
named by a program; otherwise a rule decides, or the small text model. Muted rooms need a mention, followed
ones never ask. The character's settings say which:

    "settings": {"respond": {"group": "mentioned", "muted": ["group:noise*"], "followed": ["group:ops"],
                             "names": ["the librarian"]}}
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from swarm.agent.composing import know_history
from swarm.agent.hand import TurnInHand
from swarm.agent.models.types import TEXT_SMALL, TextRequest
from swarm.agent.prompt import conversation
from swarm.errors import SwarmError, near
from swarm.settings import texts_of

log = logging.getLogger(__name__)

GROUP: Final = "group:"
RULES: Final = ("mentioned", "topics", "model", "always", "never")
"""What decides in a group: a mention, one of the character's topics, the small text model; or it is settled."""

_ASK: Final = (
    "You are {name}, in a room with several others.{about} Decide whether the last message calls for you. Answer "
    "with one word: RESPOND or IGNORE."
)
MODEL_SECONDS: Final = 20.0
CONTEXT_MESSAGES: Final = 8
"""With the one in hand, as far as the model is told."""


class Decision(NamedTuple):
    """`attends`: actions may be chosen. `responds`: an answer is made up where no action gives one."""

    attends: bool
    responds: bool
    why: str


class Manners(NamedTuple):
    """The setting ``respond``."""

    group: str = "mentioned"
    muted: tuple[str, ...] = ()
    followed: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


async def decide(turn: TurnInHand) -> None:
    decision = await _decide(turn)
    turn.attends, turn.responds = decision.attends, decision.responds
    await turn.runtime.events.emit(
        "decision:made",
        message=turn.message,
        run_id=turn.run_id,
        attends=decision.attends,
        responds=decision.responds,
        why=decision.why,
    )


async def _decide(turn: TurnInHand) -> Decision:
    wanted = turn.message.kind in ("ask", "task")
    meant, why = await _meant(turn)
    return Decision(meant, meant and wanted, why)


async def _meant(turn: TurnInHand) -> tuple[bool, str]:
    message, given = turn.message, turn.runtime.get_setting("respond")
    if message.task is not None:
        return True, "task"
    if "action" in message.content.data:
        return True, "named"
    group = message.room.startswith(GROUP) or bool(message.content.metadata.get("group"))
    if given is None and not group:  # the common case pays for nothing
        return True, "direct"
    manners = manners_of(given)
    if (group or manners.muted) and mentioned(turn, manners.names):
        return True, "mentioned"
    if _listed(message.room, manners.muted):
        return False, "muted"
    if _listed(message.room, manners.followed):
        return True, "followed"
    if not group:
        return True, "direct"
    if _is_reply(turn):
        return True, "reply"
    return await _by_rule(turn, manners.group)


async def _by_rule(turn: TurnInHand, rule: str) -> tuple[bool, str]:
    match rule:
        case "always" | "never":
            return rule == "always", f"rule {rule}"
        case "topics":
            return _says(turn.message.text, turn.runtime.character.topics), "rule topics"
        case "model":
            return await _by_model(turn), "model"
    return False, "rule mentioned"


async def _by_model(turn: TurnInHand) -> bool:
    """Only the plain word counts; a model that says something else, or nothing, is not meant."""
    await know_history(turn, CONTEXT_MESSAGES - 1)
    character = turn.runtime.character
    about = f" You know about: {', '.join(character.topics)}." if character.topics else ""
    request = TextRequest(
        system=_ASK.format(name=character.name, about=about),
        messages=conversation(turn.state.messages[-CONTEXT_MESSAGES:], turn.runtime.name),
        prompt="" if turn.state.messages else turn.message.text or " ",
        temperature=0.0,
        max_tokens=200,
        timeout=MODEL_SECONDS,
    )
    try:
        said = await turn.runtime.models.use_text(TEXT_SMALL, request)
    except SwarmError as error:
        log.warning("whether to respond is not known: %s", error)
        turn.runtime.metrics.count_failure("model", "respond")
        return False
    return said.strip(" \t\n\"'`*.!").upper() == "RESPOND"


def mentioned(turn: TurnInHand, names: Iterable[str] = ()) -> bool:
    """By a name of the agent as whole words, with or without @, or in the metadata's ``mentions``."""
    runtime = turn.runtime
    known = [runtime.name, runtime.character.name, runtime.character.username, *names]
    listed = turn.message.content.metadata.get("mentions")
    if isinstance(listed, list) and {runtime.agent_id, *known}.intersection(map(str, listed)):
        return True
    return _says(turn.message.text, known)


def manners_of(given: Any) -> Manners:
    """The setting as a value; what makes no sense in it is said and left out."""
    if given is None:
        return Manners()
    if not isinstance(given, Mapping):
        log.warning("the setting respond must be a mapping, not %s; it is left out", type(given).__name__)
        return Manners()
    for key, value in given.items():
        if key not in Manners._fields:
            log.warning("there is no setting respond.%s%s", key, near(str(key), Manners._fields))
        elif key != "group" and not isinstance(value, str | list | tuple):
            log.warning("the setting respond.%s must be a list of texts, not %r; it is left out", key, value)
    rule = given.get("group", "mentioned")
    if rule not in RULES:
        log.warning(
            "the setting respond.group is %r%s It is one of %s.",
            rule,
            near(str(rule), RULES),
            ", ".join(RULES),
        )
        rule = "mentioned"
    return Manners(rule, *(texts_of(given.get(key)) for key in ("muted", "followed", "names")))


def _listed(room: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(room, pattern) for pattern in patterns)


def _is_reply(turn: TurnInHand) -> bool:
    """A reply to this agent, unless its metadata says to whom it replies, and that is another."""
    to = turn.message.content.metadata.get("reply_to")
    if to is not None:
        return str(to) in (turn.runtime.name, turn.runtime.agent_id)
    return turn.message.in_reply_to is not None


def _says(text: str, phrases: Iterable[str]) -> bool:
    wanted = [re.escape(phrase.strip()) for phrase in phrases if phrase.strip()]
    return (
        bool(wanted) and re.search(rf"(?<!\w)(?:{'|'.join(wanted)})(?!\w)", text, re.IGNORECASE) is not None
    )
