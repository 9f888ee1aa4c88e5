"""What the body of `POST /message` asks, or one sentence that says what is wrong with it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bus.envelope import Id, Name, Room
from deploy.alone.reply import Refusal
from swarm.agent.storable import Unstorable, storable_content
from swarm.errors import near
from swarm.ids import new_id
from swarm.records import RESERVED_NAMES, Content

MOST_BYTES: Final = 1_048_576
"""Of a body. What the bus carries, and so every agent of a swarm, is 1.25 MiB."""
LONGEST: Final = 600.0


class _Body(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    data: dict[str, Any] = {}
    room: Room | None = None
    sender: Name = "user"
    id: Id | None = None
    timeout: Annotated[float, Meta(gt=0, le=LONGEST)] = 60.0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """`sender` is whoever the asker says it is. `room` is the conversation; by default one for each sender. The same
    `id` again leaves nothing behind twice; a new one unless given. `timeout` in seconds."""

    content: Content
    room: str
    sender: str
    id: str
    timeout: float


def read_question(body: bytes) -> Question:
    """Raises Refusal: 400 for what is no question, 413 for one that is too large."""
    try:
        raw = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise Refusal(400, f"The body is not JSON: {error}.", "not_json") from None
    if not isinstance(raw, dict):
        raise Refusal(400, 'The body must be a JSON object, such as {"text": "hello"}.', "bad_body")
    known = _Body.__struct_fields__
    for key in raw:
        if key not in known:
            raise Refusal(
                400,
                f"The body has no field {key[:100]!r}{near(key[:100], known)} It has {', '.join(known)}.",
                "bad_body",
            )
    try:
        asked = msgspec.convert(raw, _Body)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Refusal(400, f"The body is not right: {error}.", "bad_body") from None
    if asked.sender in RESERVED_NAMES:
        raise Refusal(400, f"The sender {asked.sender!r} is a name that is kept; use another.", "bad_body")
    if not asked.text.strip() and not asked.data:
        raise Refusal(400, "The body says nothing: give it a text, or data.", "bad_body")
    try:
        content = storable_content("The message", asked.text, asked.data)
    except Unstorable as error:
        raise Refusal(413 if error.reason == "too_large" else 400, error.text, error.reason) from None
    room = asked.room or f"http:{asked.sender}"
    return Question(
        content=content, room=room, sender=asked.sender, id=asked.id or new_id(), timeout=asked.timeout
    )
