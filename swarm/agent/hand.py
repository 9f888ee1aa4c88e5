"""A turn in hand: the one value that passes through the steps of `turn.py` and gathers what they find."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from swarm.agent.spending import Spent, on_account
from swarm.agent.streaming import Pieces
from swarm.components import Action, ActionResult, Message, State
from swarm.errors import TryAgain
from swarm.ids import derived_id, new_id
from swarm.records import Content, Memory, Outgoing, TaskInput

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

Say = Callable[[Content], Awaitable[None]]
"""Hands a piece of the answer to whoever waits for it."""

Status = Literal["handled", "duplicate", "out_of_order", "stale", "rejected"]


async def say_nothing(_: Content) -> None:
    """For turns that nobody waits for."""


def inputs_of(content: Content) -> list[TaskInput]:
    """What the task that brings this content has asked before, as the ledger sends it along."""
    try:
        return msgspec.convert(content.data.get("inputs") or [], list[TaskInput])
    except msgspec.ValidationError:
        return []


class MessageResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a message (B12). `response` is None where no answer was called for.

    ``handled``, ``duplicate``, ``out_of_order`` and ``stale`` are the ledger's words (records.Committed);
    ``rejected`` is a plugin's hook, with its reason in `error`.
    """

    status: Status
    run_id: str
    response: Content | None = None
    actions: tuple[ActionResult, ...] = ()
    error: str | None = None
    milliseconds: float = 0.0


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which actions were chosen, out of which, by whom and how surely; kept in the response's metadata.

    `outcome` is that of `ChoiceReply`, or ``named``: the message named them itself. `selector` is the provider
    of the model that chose, or empty when none was asked.
    """

    actions: tuple[str, ...] = ()
    outcome: str = "empty"
    selector: str = ""
    confidence: float = 0.0
    candidates: tuple[str, ...] = ()


_current: ContextVar[TurnInHand | None] = ContextVar("swarm_turn", default=None)


def current_turn() -> TurnInHand | None:
    """The turn that this code runs in, or None. In `contextvars`, so that concurrent turns never mix (X6)."""
    return _current.get()


class Asking(BaseException):
    """Raised by `peers.ask_input`: the turn ends here, its task waits for an answer. Not an Exception, so that no
    handler's ``except Exception`` keeps the question to itself."""

    def __init__(self, question: str, schema: dict[str, Any] | None) -> None:
        super().__init__(question)
        self.question = question
        self.schema = schema


@dataclass(slots=True)
class TurnInHand:
    """`delivery` and `attempt` come from the ledger; an ask has neither. `outgoing` and `memories` are
    written when the turn commits, and not before."""

    runtime: AgentRuntime
    message: Message
    delivery: int | None = None
    say: Say = say_nothing
    run_id: str = field(default_factory=new_id)
    began: float = field(default_factory=time.perf_counter)
    state: State = field(default_factory=State)
    known: int = 0
    """How many of the room's messages were asked for; see `composing.know_history`."""
    attends: bool = True
    responds: bool = True
    plan: Sequence[Action] = ()
    choice: Chosen | None = None
    results: list[ActionResult] = field(default_factory=list)
    response: Content | None = None
    rejected: str | None = None
    memories: list[Memory] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)
    status: Status = "handled"
    rung: tuple[str, ...] = ()
    spent: Spent = field(default_factory=Spent)
    pieces: Pieces = field(init=False)
    asking: Asking | None = None
    """What its task needs to know before it can go on."""
    again: TryAgain | None = None
    """Its last action wants another attempt at the task."""
    progress: tuple[float, str] | None = None
    """Reported and not written yet: percent and note."""
    progress_at: float = -1e9
    _told: list[TaskInput] | None = None
    _minted: int = 0

    def __post_init__(self) -> None:
        self.pieces = Pieces(self.message.id, self.run_id, self.say, self.runtime.events)

    def mint(self, what: str, key: str | None = None) -> str:
        """An id that a second run of this turn mints again, so that no retry makes a second row. All turns of one
        task mint the same, but for what was said in each."""
        own = what == "evaluation" or key in ("in", "out")
        root = self.message.id if own else self.message.task or self.message.id
        if key is None:
            self._minted += 1
            key = f"#{self._minted}"
        return derived_id(self.runtime.agent_id, root, what, key)

    def answer_to(self, question: str) -> Content | None:
        """The answer that this task was given to the question; each counts once."""
        if self._told is None:
            self._told = inputs_of(self.message.content)
        for told in self._told:
            if told.question == question and told.answer is not None:
                self._told.remove(told)
                return told.answer
        return None

    @contextmanager
    def current(self) -> Iterator[None]:
        """What runs inside belongs to this turn: its messages, its memories, its models' cost."""
        token = _current.set(self)
        try:
            with on_account(self.spent, self.message.task):
                yield
        finally:
            _current.reset(token)

    def result(self) -> MessageResult:
        return MessageResult(
            status=self.status,
            run_id=self.run_id,
            response=self.response,
            actions=tuple(self.results),
            error=self.rejected,
            milliseconds=(time.perf_counter() - self.began) * 1000,
        )
