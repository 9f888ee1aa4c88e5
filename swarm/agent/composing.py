"""What is known when a message is handled: the room's recent messages, facts, and what providers say (D10–D15).

State is composed afresh for each message; nothing is kept from one to the next.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from swarm.agent.containment import contained, tell_failure
from swarm.agent.hand import TurnInHand
from swarm.agent.models.tokens import estimate_tokens
from swarm.agent.storable import clean_text, cut_text, describe
from swarm.components import Provider, State
from swarm.records import Memory
from swarm.signatures import asks_for

log = logging.getLogger(__name__)

PROVIDER_CHARS: Final = 64_000
"""What one provider may add to the context; the rest is cut, and the cut is said."""


async def remember(turn: TurnInHand) -> None:
    """The message joins the room's memory when the turn commits; the same message never twice."""
    message = turn.message
    turn.memories.append(
        Memory(
            id=turn.mint("memory", "in"),
            room=message.room,
            entity=message.sender,
            content=message.content,
            created_at=message.received_at or _now(),
        )
    )


async def compose(turn: TurnInHand) -> None:
    runtime, message = turn.runtime, turn.message
    if _somebody_looks(turn):
        await know_history(turn)
    base = turn.state
    said = await asyncio.gather(*(_ask_provider(turn, provider, base) for provider in runtime.providers))
    providers = {name: value for name, value in said if value is not None}
    sections = [f"\n[{name}]\n{value['text']}\n" for name, value in providers.items()]
    count = _estimator(turn)
    messages, sections = _within_budget(turn, list(base.messages), sections, count)
    context = "".join(sections)
    turn.state = State(
        messages=tuple(messages),
        facts=tuple(fact for value in providers.values() for fact in _facts(value)),
        providers=providers,
        context=context,
        metadata={
            "roomId": message.room,
            "entityId": message.sender,
            "timestamp": _now(),
            "tokenCount": count(context),
        },
    )


async def know_history(turn: TurnInHand, most: int | None = None) -> None:
    """Read what was said in the room, only when somebody will look at it and no more than they look at: `most`
    messages, else the conversation's whole length. An action that is named outright, and asks for no state, pays
    for no question to the store."""
    runtime, message = turn.runtime, turn.message
    wanted = runtime.conversation_length if most is None else min(most, runtime.conversation_length)
    if turn.known >= wanted:
        return
    turn.known = wanted
    # A task's room is its own and new, unless an earlier attempt left something there.
    fresh = message.kind == "task" and message.attempt <= 1
    history = (
        [] if fresh else await runtime.adapter.get_memories(room=message.room, kind="message", limit=wanted)
    )
    turn.state = replace(turn.state, messages=(*history, *turn.memories[:1]))


def _somebody_looks(turn: TurnInHand) -> bool:
    """Whether providers, evaluators or the budget need the room's messages whatever is done."""
    runtime = turn.runtime
    return (
        any(asks_for(provider.handler, "state") for provider in runtime.providers)
        or any(
            asks_for(handler, "state")
            for one in runtime.evaluators
            for handler in (one.handler, one.should_run, one.validate)
        )
        or runtime.get_setting("contextTokens") is not None
    )


def _estimator(turn: TurnInHand) -> Callable[[str], int]:
    """The runtime's `estimate_tokens`, which a plugin may have replaced; one that fails is passed over."""

    def count(text: str) -> int:
        if not text:
            return 0
        try:
            return max(0, int(turn.runtime.estimate_tokens(text)))
        except Exception as failure:
            log.warning("the token estimator failed (%s); the built-in one serves", describe(failure))
            turn.runtime.metrics.count_failure("estimator", "tokens")
            return estimate_tokens(text)

    return count


def _within_budget(
    turn: TurnInHand, messages: list[Memory], sections: list[str], count: Callable[[str], int]
) -> tuple[list[Memory], list[str]]:
    """What fits the setting ``contextTokens``, if there is one: the oldest messages go first, the one in hand
    stays; then providers' sections from the end, which are those of the highest position."""
    budget = _budget(turn.runtime.get_setting("contextTokens"))
    if budget is None:
        return messages, sections
    costs = [count(memory.content.text) for memory in messages]
    section_costs = [count(section) for section in sections]
    over = sum(costs) + sum(section_costs) - budget
    first = 0
    while over > 0 and first < len(messages) - 1:
        over -= costs[first]
        first += 1
    kept = len(sections)
    while over > 0 and kept > 0:
        kept -= 1
        over -= section_costs[kept]
    if first or kept < len(sections):
        log.info(
            "%d messages and %d providers are left out, to fit %d tokens", first, len(sections) - kept, budget
        )
    return messages[first:], sections[:kept]


def _budget(given: Any) -> int | None:
    """The setting as a number of tokens; from the environment it comes as a text."""
    if given is None:
        return None
    number = int(given) if isinstance(given, str) and given.strip().isdecimal() else given
    if not isinstance(number, int) or isinstance(number, bool) or number <= 0:
        log.warning("the setting contextTokens must be a whole number above 0, not %r; it is left out", given)
        return None
    return number


async def _ask_provider(
    turn: TurnInHand, provider: Provider, base: State
) -> tuple[str, Mapping[str, Any] | None]:
    """A provider may return nothing; one that fails, hangs or returns what cannot be read is left out."""
    outcome = await contained(
        turn.runtime,
        "provider",
        provider.name,
        provider.handler,
        {"runtime": turn.runtime, "message": turn.message, "state": base},
        seconds=provider.timeout,
        read=_provided,
    )
    said = outcome.value
    if said is None:
        return provider.name, None
    text = said["text"]
    if len(text) > PROVIDER_CHARS:
        flood = (
            f"provider {provider.name} said {len(text):,} characters, and {PROVIDER_CHARS:,} of them are kept"
        )
        await tell_failure(turn.runtime, "provider", provider.name, flood)
    return provider.name, {**said, "text": clean_text(cut_text(text, PROVIDER_CHARS))}


def _provided(said: Any) -> Mapping[str, Any] | None:
    """What a provider returned, in the shape that the state has."""
    match said:
        case None:
            return None
        case Mapping():
            text, data = said.get("text"), said.get("data")
            return {
                "text": "" if text is None else str(text),
                "data": {} if data is None else dict(data) if isinstance(data, Mapping) else data,
            }
    return {"text": str(said), "data": {}}


def _facts(value: Mapping[str, Any]) -> tuple[Any, ...]:
    data = value.get("data")
    facts = data.get("facts") if isinstance(data, Mapping) else None
    return tuple(facts) if isinstance(facts, (list, tuple)) else ()


def _now() -> int:
    return int(time.time() * 1000)
