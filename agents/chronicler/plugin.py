"""What the chronicler does: it marks each message before it is handled, and writes the conversation down after.

A plugin of hooks alone (P14). Settings: `CHRONICLE_FOLDER` (default `.swarm/chronicle`), `CHRONICLE_BYTES`
(of one file, default 1,000,000), `CHRONICLE_FILES` (older ones kept, default 4).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from swarm import Service
from swarm.components import Message
from swarm.ids import derived_id
from swarm.plugin import Plugin
from swarm.records import Content, Memory

from .journal import Journal

if TYPE_CHECKING:
    from swarm import AgentRuntime

LINE_CHARS: Final = 4_000
"""How much of one text is written down; what is cut is counted."""
CHRONICLE: Final = "chronicle"

plugin = Plugin("chronicler", "Writes conversations down.")


@plugin.service
class Chronicle(Service):
    """The journal of this instance: one writer at a time, off the event loop."""

    service_type = CHRONICLE

    async def start(self) -> None:
        setting = self.runtime.get_setting
        folder = Path(str(setting("CHRONICLE_FOLDER", ".swarm/chronicle")))
        name = f"{self.runtime.name}-{self.runtime.instance}" if self.runtime.instance else self.runtime.name
        most = int(setting("CHRONICLE_BYTES", 1_000_000))
        self.journal = Journal(folder / f"{name}.jsonl", most, int(setting("CHRONICLE_FILES", 4)))
        self._writing = asyncio.Lock()

    async def write(self, entry: dict[str, Any]) -> None:
        async with self._writing:
            await asyncio.to_thread(self.journal.append, entry)


async def preprocess(message: Message) -> Message:
    """Mark the message as seen by this plugin, whatever its metadata was before."""
    metadata = {**message.content.metadata, "preprocessed": True}
    return msgspec.structs.replace(
        message, content=msgspec.structs.replace(message.content, metadata=metadata)
    )


async def write_down(message: Message, response: Content | None, runtime: AgentRuntime) -> None:
    """After the turn's commit: a memory first, which a second run of the message does not make twice, then
    a line. The data of messages is for programs and may hold anything, so only texts are written."""
    said, answered = _bounded(message.text), _bounded(response.text if response else "")
    entry = {
        "at": int(time.time() * 1000),
        "message": message.id,
        "room": message.room,
        "kind": message.kind,
        "from": message.sender,
        "said": said,
        "answered": answered if response else None,
        "preprocessed": message.content.metadata.get("preprocessed", False),
    }
    await runtime.adapter.create_memory(
        Memory(
            id=derived_id(runtime.agent_id, message.id, CHRONICLE),
            room=message.room,
            entity=message.sender,
            kind=CHRONICLE,
            content=Content(text=f"{message.sender}: {said}\n{runtime.name}: {answered}", data=entry),
            created_at=entry["at"],
        )
    )
    chronicle = runtime.get_service(CHRONICLE)
    if isinstance(chronicle, Chronicle):
        await chronicle.write(entry)


plugin.before_message = preprocess
plugin.after_message = write_down


def _bounded(text: str) -> str:
    if len(text) <= LINE_CHARS:
        return text
    return f"{text[:LINE_CHARS]}… ({len(text) - LINE_CHARS:,} more characters)"
