"""What can go wrong on the wire, and only that.

An ask ends in one reply or in one of four errors, which mean different things to the asker:

    NobodyThere   nothing is listening there now: start it, or tell it instead of asking
    TooLate       it may be working still, but the deadline has passed
    Refused       somebody decided against it: permission, an unknown address, a bound
    Failed        it was tried and did not work

`code` is the word on the wire, `reason` a finer word for programs, the text a sentence for people.
"""

from __future__ import annotations

from typing import ClassVar


class BusError(Exception):
    """The root of everything the wire raises.

    `reason` is a snake_case word that programs may compare, such as ``unknown_agent``.
    """

    code: ClassVar[str] = "bus_error"

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason or self.code


class NobodyThere(BusError):
    code = "nobody_there"


class TooLate(BusError):
    code = "too_late"


class Refused(BusError):
    code = "refused"


class Failed(BusError):
    code = "failed"


class BadMessage(BusError):
    """Bytes that are not a message of ours. Raised at the door, never deeper."""

    code = "bad_message"


class Disconnected(BusError):
    """The connection is closed for good; a process that sees it ends with exit code 75."""

    code = "disconnected"


_BY_CODE: dict[str, type[BusError]] = {
    kind.code: kind for kind in (NobodyThere, TooLate, Refused, Failed, BadMessage, Disconnected)
}


def error_from_wire(code: str, text: str, reason: str) -> BusError:
    """The exception for an error reply; a code that we do not know is a failure."""
    return _BY_CODE.get(code, Failed)(text, reason=reason)
