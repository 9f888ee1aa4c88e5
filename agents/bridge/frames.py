"""What goes over the WebSocket: one JSON object a frame, bounded on every field.

in    {"id": "7", "room": "main", "from": "ada", "text": "hello", "data": {}}
out   {"in_reply_to": "7", "room": "main", "status": "handled", "text": "…", "data": {}}
out   {"in_reply_to": "7", "error": "…"}              what could not be read or handled
out   {"from": "bridge", "text": "…", "data": {}}     what an agent sent through the bridge
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

FRAME_BYTES: Final = 256 * 1024
"""The largest frame that is taken; a larger one makes the library close the connection (code 1009)."""


class BadFrame(ValueError):
    """A frame that is no message; the text says why, and quotes nothing of it."""


class Inbound(msgspec.Struct, frozen=True):
    """A message from the far end. `id` is the far end's own: it comes back as ``in_reply_to``."""

    text: Annotated[str, msgspec.Meta(max_length=64_000)] = ""
    data: dict[str, Any] = {}
    id: Annotated[str, msgspec.Meta(max_length=128)] = ""
    room: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] = "main"
    sender: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = msgspec.field(
        name="from", default="guest"
    )


_decoder: Final = msgspec.json.Decoder(Inbound)


def read_frame(raw: str | bytes) -> Inbound:
    """Raises BadFrame for what is no JSON, has a wrong type or is out of bounds, and for an empty message."""
    try:
        frame = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"This is no message: {error}.") from error
    if not frame.text and not frame.data:
        raise BadFrame("This message says nothing: give it a text or data.")
    return frame


def write_frame(fields: dict[str, Any]) -> str:
    return msgspec.json.encode(fields).decode()
