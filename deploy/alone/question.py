"""What the body of `POST /message` asks, or one sentence that says what is wrong with it.

{"text", "data", "room", "sender", "id", "timeout"}          ours; a text or data is enough
{"content": {"text", …}, "roomId", "entityId", "id", …}      elizaOS's shape of a message is taken too
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from bus.envelope import Id, Name, Room
from deploy.alone.reply import Refusal
from swarm.agent.storable import Unstorable, plain_value, storable_content
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
    metadata: dict[str, Any] = {}
    if "content" in raw:
        raw, metadata = _of_elizaos(raw)
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
        if metadata:
            content = msgspec.structs.replace(content, metadata=plain_value("The content", metadata))
    except Unstorable as error:
        raise Refusal(413 if error.reason == "too_large" else 400, error.text, error.reason) from None
    room = asked.room or f"http:{asked.sender}"
    return Question(
        content=content, room=room, sender=asked.sender, id=asked.id or new_id(), timeout=asked.timeout
    )


def _of_elizaos(raw: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same in our fields, and what else its content says, which is kept as metadata. When it was made and for
    whom is ours to say."""
    content = raw["content"]
    if not isinstance(content, dict):
        raise Refusal(400, 'content must be an object, such as {"text": "hello"}.', "bad_body")
    for key in _MARKS & content.keys():
        raise Refusal(400, f"content.{key} is a mark that only the runtime makes; leave it out.", "bad_body")
    ours = {_OF_ELIZAOS.get(key, key): value for key, value in raw.items() if key not in _NOT_TAKEN}
    for key in ("text", "data"):
        if key in content:
            ours[key] = content[key]
    return ours, {key: value for key, value in content.items() if key not in ("text", "data")}


_OF_ELIZAOS: Final = {"roomId": "room", "entityId": "sender", "userId": "sender"}
_MARKS: Final = frozenset({"from_agent", "inter_agent", "broadcast"})
_NOT_TAKEN: Final = frozenset({"content", "agentId", "createdAt"})
