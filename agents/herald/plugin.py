"""What the herald does: it notes every announcement, and tells the news to whoever asks."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from swarm.components import ActionResult, Message
from swarm.plugin import Plugin

if TYPE_CHECKING:
    from swarm import AgentRuntime

log = logging.getLogger(__name__)

NEWS = "news"
TOLD_AT_ONCE = 10

plugin = Plugin("herald", "Keeps the news of the swarm and tells them.")


async def is_announcement(message: Message) -> bool:
    return message.kind == "announce"


async def asks_for_news(message: Message) -> bool:
    wanted = r"\b(new|news|latest|announce\w*|report\w*|happen\w*|heard?)\b"
    return message.kind != "announce" and bool(re.search(wanted, message.text, re.I))


@plugin.action("NOTE_NEWS", description="Notes an announcement as news.", validate=is_announcement)
async def note_news(message: Message, runtime: AgentRuntime) -> ActionResult:
    """The news is written when the turn commits, so a second run of the turn notes nothing twice."""
    told = {"from": message.sender, "at": message.received_at, "text": message.text, **_report(message)}
    await runtime.remember(message.text, kind=NEWS, data=told)
    log.info("news from %s: %s", message.sender, message.text)
    return ActionResult(True, text=f"Noted, from {message.sender}: {message.text}")


@plugin.action(
    "WHATS_NEW",
    description="Tells the latest news: announcements that were made, also while the herald was away.",
    similes=["NEWS", "TELL_NEWS", "LATEST_NEWS"],
    examples=["what's new?", "any news?", "what happened?", "which reports are there?"],
    validate=asks_for_news,
)
async def whats_new(runtime: AgentRuntime) -> ActionResult:
    news = [one.content.data for one in await runtime.adapter.get_memories(kind=NEWS, limit=TOLD_AT_ONCE)]
    if not news:
        return ActionResult(True, text="Nothing has been announced yet.", data={"news": []})
    news.sort(key=lambda one: -one["at"])
    return ActionResult(
        True, text="\n".join(f"{one['from']}: {one['text']}" for one in news), data={"news": news}
    )


def _report(message: Message) -> dict[str, str]:
    report = message.content.data.get("report")
    return {"report": report} if isinstance(report, str) else {}
