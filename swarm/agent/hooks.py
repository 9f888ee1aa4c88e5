"""The plugins' hooks around a message, and the two steps of the turn that call them (P10, P11).

Every plugin's hooks run, in the order of registration, each contained. What a failing `before_message`
means is the plugin's own policy: ``fail_open`` goes on, ``fail_closed`` rejects the message.
"""

from __future__ import annotations

import logging
from typing import Final

from swarm.agent.containment import contained
from swarm.agent.hand import TurnInHand
from swarm.components import Message

log = logging.getLogger(__name__)

HOOK_SECONDS: Final = 10.0


async def before(turn: TurnInHand) -> None:
    """Each plugin sees the message as the one before left it; None keeps it."""
    for plugin in turn.runtime.plugins:
        if plugin.before_message is None:
            continue
        outcome = await contained(
            turn.runtime,
            "hook",
            f"{plugin.name}.before_message",
            plugin.before_message,
            {"message": turn.message, "runtime": turn.runtime},
            seconds=HOOK_SECONDS,
        )
        if outcome.error is not None and plugin.on_hook_error == "fail_closed":
            turn.rejected = f"Rejected by plugin {plugin.name}: {outcome.error}."
            return
        if isinstance(outcome.value, Message):
            turn.message = outcome.value
        elif outcome.value is not None:
            log.warning(
                "plugin %s: before_message must return a Message or None, not %s; the message is kept as it was",
                plugin.name,
                type(outcome.value).__name__,
            )


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
