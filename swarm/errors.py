"""The errors of the runtime, drawn once. Each is a sentence that says what happened and what to do.

SwarmError                 exit code 1
├── UsageError                       2   the caller's words are off
├── NotRunning                       3   there is no swarm to talk to
├── CharacterError                   1   a character cannot be loaded or is not valid
├── ConfigError                     78   swarm.toml, settings (a node does not restart on it)
├── PluginError                      1   a plugin cannot be loaded or registered
├── ModelError                       1   a model is missing, down, slow or answers nonsense
├── StoreError                       1   the store refused or failed
│   ├── StoreDown                   69   it cannot be reached: try again
│   └── Unknown                      1   sent, but nobody knows whether it was accepted: retry with the same id
└── IllegalTransition                1   a state machine was asked for what it does not have

bus.Refused                          5   somebody decided against it
├── UnknownAgent                     5   the address names nobody; near names follow
├── UnknownChild                     5   the caller has no child of this name
├── NoAuthority                      5   not your child, or not your right
└── InboxFull                        5   too much waits for that agent
bus.TooLate                          4 · bus.NobodyThere, bus.Failed  1 · bus.Disconnected  75
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

from bus.errors import BusError, Disconnected, Refused, TooLate


class SwarmError(Exception):
    exit_code: ClassVar[int] = 1

    def __init__(self, text: str, *, reason: str = "") -> None:
        super().__init__(text)
        self.text = text
        self.reason = reason


class UsageError(SwarmError):
    exit_code = 2


class NotRunning(SwarmError):
    exit_code = 3


class CharacterError(SwarmError):
    pass


class ConfigError(SwarmError):
    exit_code = 78


class PluginError(SwarmError):
    pass


class ModelError(SwarmError):
    pass


class StoreError(SwarmError):
    pass


class StoreDown(StoreError):
    exit_code = 69


class Unknown(StoreError):
    """The call was sent and its outcome is not known. A retry with the same `id` is always safe."""

    def __init__(self, id: str) -> None:
        super().__init__(f"Nobody knows whether {id} was accepted; send it again with the same id.")
        self.id = id


class IllegalTransition(SwarmError):
    pass


class UnknownAgent(Refused):
    def __init__(self, address: str, known: Iterable[str] = ()) -> None:
        what = "group" if address.startswith("group:") else "agent"
        close = near(address, near_address(address, known))
        super().__init__(f"There is no {what} {address!r}{close}", reason="unknown_agent")
        self.address = address


class UnknownChild(Refused):
    """The text is the source's own, to the letter: ``Child agent X not found``. `hint` names near ones."""

    def __init__(self, child: str, known: Iterable[str] = ()) -> None:
        super().__init__(f"Child agent {child} not found", reason="unknown_child")
        self.hint = near(child, known).removeprefix("; ").removesuffix(".")


class NoAuthority(Refused):
    """The text is the source's own, to the letter: ``No authority over this agent``."""

    def __init__(self, text: str = "No authority over this agent") -> None:
        super().__init__(text, reason="no_authority")


class TryAgain(SwarmError):
    """Raised by an action's handler: this attempt at the task failed and another may work. `after` in seconds, by
    the database's clock; without it 1, 2, 4 … s. It goes on until the task has had its attempts."""

    def __init__(self, text: str, *, after: float | None = None) -> None:
        super().__init__(text, reason="try_again")
        self.after = after


def unknown_task(id: str) -> Refused:
    return Refused(f"There is no task {id}; swarm task ls shows the newest.", reason="unknown_task")


class InboxFull(Refused):
    """The recipient's inbox is at its bound; `text` says which. Nothing was accepted."""

    def __init__(self, text: str, recipient: str) -> None:
        super().__init__(
            f"{text[:1].upper()}{text[1:]}; let {recipient} catch up (`swarm start {recipient}`), look with "
            f"`swarm inbox {recipient}`, or raise the bound in swarm.toml.",
            reason="inbox_full",
        )
        self.recipient = recipient


def near_address(address: str, known: Iterable[str]) -> list[str]:
    """Of what is known, what such an address could have meant: groups, roles, or names."""
    kind = address.partition(":")[0] + ":" if address.startswith(("group:", "role:")) else ""
    return [one for one in known if (one.startswith(kind) if kind else ":" not in one)]


def near(word: str, known: Iterable[str]) -> str:
    """``; did you mean reader?`` or a full stop, to end a sentence about a word that is not known."""
    by_lower = {one.lower(): one for one in known}
    close = [by_lower[one] for one in get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(close)}?" if close else "."


def exit_code(error: BaseException) -> int:
    """The exit code of a process or command that ends with this error."""
    match error:
        case SwarmError():
            return error.exit_code
        case TooLate():
            return 4
        case Refused():
            return 5
        case Disconnected():
            return 75
        case BusError():
            return 1
    return 1
