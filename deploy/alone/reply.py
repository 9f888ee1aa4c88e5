"""What is answered over HTTP, and which status each of our errors has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from bus.errors import BadMessage, BusError, NobodyThere, Refused, TooLate

JSON: Final = "application/json"
RETRY_SECONDS: Final = "1"


class Reply(msgspec.Struct, frozen=True):
    """A whole answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = {}


class Refusal(Exception):
    """An answer that is none: a status, a sentence, and a word for programs."""

    def __init__(self, status: int, text: str, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.reason = reason
        self.headers = headers or ({"Retry-After": RETRY_SECONDS} if status == 503 else {})

    def reply(self) -> Reply:
        return Reply(self.status, to_json(self.said()), headers=self.headers)

    def said(self) -> dict[str, str]:
        return {"error": self.text, "reason": self.reason}


def refusal_of(error: BusError) -> Refusal:
    """503 for what a moment later may be well, 504 for a deadline, 4xx for the asker's doing, else 500."""
    match error:
        case NobodyThere():
            status = 503
        case TooLate():
            status = 504
        case Refused(reason="busy") | BusError(reason="breaker_open"):
            status = 503
        case Refused():
            status = 422
        case BadMessage(reason="too_large"):
            status = 413
        case BadMessage():
            status = 400
        case _:
            status = 500
    return Refusal(status, error.text, error.reason)


def json_reply(value: Any, status: int = 200) -> Reply:
    return Reply(status, to_json(value))


def to_json(value: Any) -> bytes:
    return msgspec.json.encode(value)
