"""The rest of an eager start (G4): what an agent's first message would find cold, and only its own can warm.

Nothing of a plugin is called, and nothing is written. The signatures of its handlers are read, its prompt is made,
its actions are candidates once, and the statements of a turn are known to the store's connection, which closes as
any other when it is idle.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from bus.errors import Refused
from swarm.agent.models.choice import candidate
from swarm.agent.prompt import conversation, system_prompt
from swarm.components import State
from swarm.errors import StoreError
from swarm.records import Turn
from swarm.signatures import asks_for

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

log = logging.getLogger(__name__)


async def warm(runtime: AgentRuntime) -> None:
    """A store that is not there now delays the first message, not the start."""
    handlers = [
        handler for action in runtime.actions.values() for handler in (action.handler, action.validate)
    ]
    handlers += [provider.handler for provider in runtime.providers]
    handlers += [
        handler for one in runtime.evaluators for handler in (one.handler, one.should_run, one.validate)
    ]
    for handler in handlers:
        asks_for(handler, "state")
    for action in runtime.actions.values():
        candidate(action)
    runtime.estimate_tokens(system_prompt(runtime.character, State()))
    try:
        known = await runtime.adapter.get_memories(room=runtime.name, kind="message", limit=1)
        conversation(known, runtime.name)
        await runtime.adapter.commit(Turn(delivery=None, instance=runtime.instance))
    except (StoreError, Refused) as error:
        log.info("the store's part of a turn is not warm: %s", error)
