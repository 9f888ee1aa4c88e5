"""The plugins' hooks around a message, and the two steps of the turn that call them (P10, P11).

Every plugin's hooks run, in the order of registration, each contained. What a failing `before_message`
means is the plugin's own policy: ``fail_open`` goes on, ``fail_closed`` rejects the message.
"""

from __future__ import annotations

import logging
from typing import Any, Final

import msgspec

from swarm.agent.committing import commit_late
from swarm.agent.containment import contained, tell_failure
from swarm.agent.hand import TurnInHand
from swarm.agent.storable import Unstorable, plain_value, storable
from swarm.components import Message
from swarm.records import Content

log = logging.getLogger(__name__)

HOOK_SECONDS: Final = 10.0


async def before(turn: TurnInHand) -> None:
    """Each plugin sees the message as the one before left it; None keeps it.

    A hook may change what a message says, not who said it to whom, where: that is the ledger's."""
    for plugin in turn.runtime.plugins:
        if plugin.before_message is None:
            continue
        name = f"{plugin.name}.before_message"
        outcome = await contained(
            turn.runtime,
            "hook",
            name,
            plugin.before_message,
            {"message": turn.message, "runtime": turn.runtime},
            seconds=HOOK_SECONDS,
        )
        error = outcome.error
        if error is None and outcome.value is not None and outcome.value is not turn.message:
            try:
                turn.message = msgspec.structs.replace(turn.message, content=_content(name, outcome.value))
            except Unstorable as refused:
                error = refused.text
                await tell_failure(turn.runtime, "hook", name, error)
        if error is not None and plugin.on_hook_error == "fail_closed":
            turn.rejected = f"Rejected by plugin {plugin.name}: {error.rstrip('.')}."
            return


async def after(turn: TurnInHand) -> None:
    """All plugins are told, after the response is stored; errors are isolated."""
    for plugin in turn.runtime.plugins:
        if plugin.after_message is not None:
            await contained(
                turn.runtime,
                "hook",
                f"{plugin.name}.after_message",
                plugin.after_message,
                {"message": turn.message, "response": turn.response, "runtime": turn.runtime},
                seconds=HOOK_SECONDS,
            )
    await commit_late(turn)


def _content(name: str, value: Any) -> Content:
    """The content of the message that a hook returned. Raises Unstorable when it is none."""
    content = value.content if isinstance(value, Message) else None
    if not isinstance(content, Content):
        raise Unstorable(
            f"hook {name} must return a Message or None, not {type(value).__name__}; the message is kept as it was",
            reason="bad_result",
        )
    text, data = storable(f"The message that hook {name} returned", content.text, content.data)
    metadata = plain_value(f"The metadata that hook {name} returned", content.metadata)
    return Content(text=text, data=data, metadata=metadata)
