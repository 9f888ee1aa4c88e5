"""What the bridge does: messages from a WebSocket become its own, and its answers go back.

Set `BRIDGE_URL` to the far end's address. What crosses is described in `frames.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from swarm.components import ActionResult, Message
from swarm.plugin import Plugin

from .link import Link

if TYPE_CHECKING:
    from swarm import AgentRuntime

plugin = Plugin("bridge", "Connects the swarm with a WebSocket.")
plugin.service(Link)

_SEND = re.compile(r"\s*send\s*:\s*", re.I)


async def has_something_to_send(message: Message) -> bool:
    return _SEND.match(message.text) is not None and not message.sender.startswith("bridge:")


@plugin.action(
    "SEND",
    description="Sends a text to the far end of the bridge.",
    examples=["send: the report is ready"],
    validate=has_something_to_send,
    timeout=15.0,
)
async def send(message: Message, runtime: AgentRuntime) -> ActionResult:
    """What the far end says is never sent back to it: that would be an echo."""
    if message.sender.startswith("bridge:"):
        return ActionResult(False, error="What came over the bridge is not sent back.", reason="echo")
    link = runtime.get_service("websocket")
    text = _SEND.sub("", message.text, count=1)
    data = {key: value for key, value in message.content.data.items() if key != "action"}
    if not text and not data:
        return ActionResult(False, error="There is nothing to send: give it a text, as in `send: hello`.")
    if not isinstance(link, Link) or not await link.send(
        {"from": message.sender, "text": text, "data": data}
    ):
        return ActionResult(
            False, error="The bridge is not connected; nothing was sent.", reason="not_connected"
        )
    return ActionResult(True, text="Sent.")
