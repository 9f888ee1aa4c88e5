"""Giving tasks, gathering them, and asking for input: what `Peers` offers beyond the other three verbs.

A delegation's id comes from the task or message in hand and a key, so that a turn which is run again finds the
tasks it gave before. A handler that asks for input ends its turn there; when the answer is in, the same actions run
again from their start, and `ask_input` returns the answer: what was delegated and told before is found, not doubled.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from swarm.agent.bell import BellRope
from swarm.agent.hand import Asking, TurnInHand, current_turn
from swarm.agent.storable import clean_text, storable_content
from swarm.errors import UsageError
from swarm.failpoints import reached
from swarm.ids import new_id
from swarm.records import Content, NewTask, Task
from swarm.tracing.tracer import current_traceparent

if TYPE_CHECKING:
    from types import TracebackType

    from swarm.agent.runtime import AgentRuntime

PROGRESS_SECONDS: Final = 0.25
"""Progress is written this often at most; what is reported in between is written with the next, or at the end."""
NOTE_CHARS: Final = 500
CANCEL_SECONDS: Final = 10.0
QUESTION_CHARS: Final = 4000

Shape = TypeVar("Shape")
AnswerTo = Callable[[Task], Awaitable[str | Mapping[str, Any] | Content]]
"""Answers the question of a task that was given: called with the task, whose `question` it is."""


class Job(msgspec.Struct, frozen=True):
    """One piece of work to delegate. `key` names it within the message in hand, and stands for this goal and input;
    without one they name it themselves. `deadline` in seconds."""

    key: str
    goal: str
    input: dict[str, Any] = {}
    deadline: float | None = None
    max_attempts: int = 3


class TaskHandle:
    """A task that was accepted. `task` is how it stood when last looked at."""

    def __init__(self, peers: Delegating, task: Task) -> None:
        self._peers = peers
        self.task = task
        self.id = task.id

    async def result(self, timeout: float | None = None, *, answer: AnswerTo | None = None) -> Task:
        """Wait for the task's end, at most `timeout` seconds (TimeoutError), and return it. What it asks for is
        given by `answer`; without that it waits until somebody answers, cancels it, or its deadline passes."""
        ended = self._peers.ending_of(self.id)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    ended.clear()
                    self.task = await self._peers.look(self.id) or self.task
                    if self.task.ended:
                        return self.task
                    await self._peers.answer_if_asked(self.task, answer)
                    await ended.wait()
        finally:
            self._peers.forget(self.id, ended)

    async def cancel(self, reason: str = "") -> Task:
        self.task = await self._peers.cancel(self.id, reason)
        return self.task


class Gathering:
    """Jobs being done, at most `in_flight` at a time: iterate over it for each task as it ends.

    As ``async with peers.delegate_all(…) as gathering`` it cancels what is still open when it is left early, by `break`
    or outside of a turn by cancellation. An error that leaves it does not: the turn may be run again, and finds them.
    """

    def __init__(
        self, peers: Delegating, child: str, jobs: Iterable[Job], in_flight: int, answer: AnswerTo | None
    ) -> None:
        if in_flight < 1:
            raise UsageError("in_flight must be at least 1.")
        self._peers = peers
        self._child = child
        self._waiting = iter(jobs)
        self._in_flight = in_flight
        self._answer = answer
        self._told: asyncio.Queue[str] = asyncio.Queue()
        self._open: dict[str, _Ending] = {}

    async def __aiter__(self) -> AsyncIterator[Task]:
        while True:
            over = await self._give_more()
            for task in over:
                yield task
            if over:
                continue
            if not self._open:
                return
            told = {await self._told.get()}
            while not self._told.empty():
                told.add(self._told.get_nowait())
            told &= self._open.keys()
            for id in told:
                self._open[id].clear()
            for task in await self._peers.look_at(sorted(told)):
                if task.ended:
                    self._peers.forget(task.id, self._open.pop(task.id))
                    yield task
                else:
                    await self._peers.answer_if_asked(task, self._answer)

    async def _give_more(self) -> list[Task]:
        """Fill the places; returns the tasks that had ended before, in an earlier run of this turn."""
        batch = list(islice(self._waiting, self._in_flight - len(self._open)))
        if not batch:
            return []
        over: list[Task] = []
        for handle in await self._peers.give(self._child, batch):
            if handle.task.ended:
                over.append(handle.task)
            elif handle.id not in self._open:
                self._open[handle.id] = _Ending(handle.id, self._told)
                self._peers.listen(handle.id, self._open[handle.id])
        # It may have ended, or asked, between its acceptance and our listening.
        for task in await self._peers.look_at(list(self._open)):
            if task.ended or task.question is not None:
                self._open[task.id].set()
        return over

    async def __aenter__(self) -> Gathering:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = list(self._open)
        await self.aclose()
        if kind is None or (issubclass(kind, asyncio.CancelledError) and current_turn() is None):
            async with asyncio.timeout(CANCEL_SECONDS):
                for id in left:
                    await self._peers.cancel(id, "no longer wanted")

    async def aclose(self) -> None:
        """Stop listening; what is open goes on."""
        for id, ending in self._open.items():
            self._peers.forget(id, ending)
        self._open.clear()


class Delegating:
    """The part of `Peers` that gives tasks."""

    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime
        self._bell: BellRope | None = None
        self._endings: dict[str, list[asyncio.Event]] = {}

    async def delegate(
        self,
        child: str,
        goal: str,
        *,
        input: Mapping[str, Any] | None = None,
        deadline: float | None = None,
        max_attempts: int = 3,
        key: str | None = None,
    ) -> TaskHandle:
        """Give a child a task, now. Raises NoAuthority, UnknownChild. `deadline` in seconds from now; `key` makes it
        idempotent within the message in hand: the same key with another goal or input is refused."""
        job = Job(key or "", goal, dict(input or {}), deadline, max_attempts)
        return (await self.give(child, [job]))[0]

    def delegate_all(
        self, child: str, jobs: Iterable[Job], *, in_flight: int = 8, answer: AnswerTo | None = None
    ) -> Gathering:
        """Delegate every job, at most `in_flight` at a time, and iterate over the tasks as they end."""
        return Gathering(self, child, jobs, in_flight, answer)

    async def cancel(self, task: str, reason: str = "") -> Task:
        """Cancel a task that this agent gave, with all below it: the handler that runs it is cancelled too. One that
        has ended stays as it is. Raises NoAuthority, Refused (``unknown_task``)."""
        change = await self._runtime.adapter.cancel(task, clean_text(reason))
        if self._bell is not None:
            self._bell.pull(to=change.names, recall=True)
        return change.task

    async def answer(self, task: str, answer: str | Mapping[str, Any] | Content) -> Task:
        """Answer what a task asked for: a text, or a mapping for its data. It goes on at once. Raises NoAuthority,
        Refused (``task_state`` when it asks for nothing)."""
        match answer:
            case Content():
                said = answer
            case str():
                said = storable_content("The answer", answer)
            case _:
                said = storable_content("The answer", "", answer)
        change = await self._runtime.adapter.answer(task, said)
        self.ring(change.names)
        return change.task

    async def ask_input(
        self, question: str, *, schema: Mapping[str, Any] | None = None, shape: type[Shape] | None = None
    ) -> Any:
        """Ask whoever gave the task in hand, and return the answer as a `Content`; with `shape` (a msgspec Struct or
        another type) its data as that, asking again with what is wrong until it fits.

        The turn ends here and commits; what follows runs when the answer is in, after all that came before it has run
        again. Raises UsageError when no task is in hand."""
        turn = self._turn()
        if turn is None or turn.message.task is None:
            raise UsageError(
                "There is no task in hand whose giver could be asked; ask_input works in a task."
            )
        if shape is not None:
            schema = msgspec.json.schema(shape)
        asked = clean_text(question)[:QUESTION_CHARS]
        while True:
            told = turn.answer_to(asked)
            if told is None:
                raise Asking(asked, None if schema is None else dict(schema))
            if shape is None:
                return told
            try:
                return msgspec.convert(told.data, shape)
            except msgspec.ValidationError as error:
                asked = f"{question} (The last answer does not fit: {error}.)"[:QUESTION_CHARS]

    async def progress(self, percent: float, note: str = "") -> bool:
        """Say how far the task in hand is (0..100). False outside of a task or when the attempt is stale. It may be
        called as often as one likes: it writes four times a second at most."""
        turn = self._turn()
        if turn is None or turn.message.task is None:
            return False
        turn.progress = (max(0.0, min(100.0, float(percent))), clean_text(note)[:NOTE_CHARS])
        if time.monotonic() - turn.progress_at < PROGRESS_SECONDS:
            return True
        return await write_progress(turn)

    # ── what the mailbox and the handles need ─────────────────────────────────────────────────────
    def ring(self, recipients: Iterable[str]) -> None:
        """Hint that these agents have new mail in the ledger."""
        if self._bell is not None:
            self._bell.pull(to=recipients)

    def task_ended(self, task: str) -> None:
        """The ledger says that a task of ours has ended, or asks: wake whoever waits for it."""
        for ending in self._endings.get(task, ()):
            ending.set()

    def ending_of(self, task: str) -> asyncio.Event:
        ending = asyncio.Event()
        self.listen(task, ending)
        return ending

    def listen(self, task: str, ending: asyncio.Event) -> None:
        self._endings.setdefault(task, []).append(ending)

    def forget(self, task: str, ending: asyncio.Event) -> None:
        waiting = self._endings.get(task)
        if waiting and ending in waiting:
            waiting.remove(ending)
            if not waiting:
                del self._endings[task]

    async def look(self, task: str) -> Task | None:
        found = await self.look_at([task])
        return found[0] if found else None

    async def look_at(self, tasks: Sequence[str]) -> list[Task]:
        return await self._runtime.adapter.get_tasks(tasks)

    async def answer_if_asked(self, task: Task, answer: AnswerTo | None) -> None:
        if answer is not None and task.question is not None:
            await self.answer(task.id, await answer(task))

    async def give(self, child: str, jobs: Sequence[Job]) -> list[TaskHandle]:
        turn = self._turn()
        tasks = [
            NewTask(
                id=turn.mint("task", job.key or _name_of(child, job)) if turn else new_id(),
                child=child,
                goal=job.goal,
                input=job.input,
                deadline=None if job.deadline is None else int((time.time() + job.deadline) * 1000),
                max_attempts=job.max_attempts,
                parent_task=turn.message.task if turn else None,
                hops=self._hops(turn),
                traceparent=current_traceparent(),
            )
            for job in jobs
        ]
        reached("agent.delegate.before")
        accepted = await self._runtime.adapter.delegate(tasks)
        reached("agent.delegate.after")
        self.ring({task.child for task in accepted})
        return [TaskHandle(self, task) for task in accepted]

    def _turn(self) -> TurnInHand | None:
        turn = current_turn()
        return turn if turn is not None and turn.runtime is self._runtime else None

    def _hops(self, turn: TurnInHand | None) -> int:
        raise NotImplementedError


async def write_progress(turn: TurnInHand) -> bool:
    """Write what was last reported of the task in hand, if anything is new."""
    if turn.progress is None or turn.message.task is None:
        return False
    (percent, note), turn.progress = turn.progress, None
    turn.progress_at = time.monotonic()
    return await turn.runtime.adapter.report(turn.message.task, turn.message.attempt, percent, note)


def _name_of(child: str, job: Job) -> str:
    """A job without a key is named by what it is: a turn that decides otherwise the second time gives another task."""
    said = msgspec.json.encode([child, job.goal, job.input], order="sorted")
    return f"#{sha256(said).hexdigest()[:32]}"


class _Ending(asyncio.Event):
    """An ending that also says, in a queue, whose it is."""

    def __init__(self, task: str, ended: asyncio.Queue[str]) -> None:
        super().__init__()
        self._task = task
        self._ended = ended

    def set(self) -> None:
        if not self.is_set():
            self._ended.put_nowait(self._task)
        super().set()
