"""One connection of one operator, and what it says and asks on it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import msgspec

from bus.envelope import Envelope, pack, read_body
from bus.errors import Disconnected, NobodyThere, TooLate
from bus.subjects import Subjects
from swarm.client.calls import QUERY_SECONDS, on_behalf_of
from swarm.client.dead_letters import DeadLetterCalls
from swarm.client.families import FamilyCalls
from swarm.client.running import RunningCalls
from swarm.client.tasks import TaskCalls
from swarm.errors import NotRunning
from swarm.ids import new_id
from swarm.pieces import Piece, PieceReader
from swarm.project import Project, RunState
from swarm.protocol import Command
from swarm.records import OPERATOR, Content

if TYPE_CHECKING:
    from bus.credentials import Credentials

Result = TypeVar("Result")
ASK_SECONDS: Final = 60.0
SUCCESSION_SECONDS: Final = 10.0
"""How long a request is tried again while no coordinator listens: one that died is replaced in less."""


class Swarm(TaskCalls, DeadLetterCalls, RunningCalls, FamilyCalls):
    """One connection of one operator. Make it with `connect`."""

    def __init__(
        self,
        bus: Asker,
        swarm: str,
        pause: Callable[[float], Awaitable[None]],
        folder: Path | None = None,
    ) -> None:
        self.name = swarm
        self._bus = bus
        self._subjects = Subjects(swarm)
        self._pause = pause
        self._folder = folder or Path()

    @staticmethod
    @asynccontextmanager
    async def connect(
        project: Project | str | Path | None = None, *, wait: float = 2.0
    ) -> AsyncIterator[Swarm]:
        """Connect to the swarm that runs in a project (default: the one around the working folder).

        `wait` bounds the connecting, in seconds. Raises NotRunning, and UsageError when there is no project.
        """
        import asyncio

        from bus.buses.nats import connect

        found = project if isinstance(project, Project) else Project.find(project)
        state, who = _access(found)
        try:
            bus = await connect(state.bus_url.split(","), who, deadline=wait)
        except Disconnected as error:
            raise _silent(found) from error
        try:
            yield Swarm(bus, state.swarm, asyncio.sleep, found.folder)
        finally:
            await bus.close()

    @staticmethod
    def once(project: Project, work: Callable[[Swarm], Coroutine[Any, Any, Result]]) -> Result:
        """`work(swarm)` without an event loop, for programs that ask once and end: it blocks, and may await
        nothing but the swarm's methods. A bus that has died is waited for while there is a supervisor to
        start another. Raises what `connect` raises."""
        from bus.oneshot import connect_once

        patience = time.monotonic() + SUCCESSION_SECONDS
        while True:
            state, who = _access(project)  # anew each time: a bus that comes back may have another port
            if not state.bus_url.startswith("nats://"):
                return _with_loop(project, work)
            connected = False
            try:
                with connect_once(state.bus_url, who) as bus:
                    connected = True
                    return _drive(work(Swarm(bus, state.swarm, _sleep, project.folder)))
            except Disconnected as error:
                if connected or time.monotonic() > patience or not _has_supervisor(state):
                    raise _silent(project) from error
            time.sleep(0.1)

    # ── the four verbs ────────────────────────────────────────────────────────────────────────────
    async def ask(
        self,
        agent: str,
        text: str,
        *,
        data: Mapping[str, Any] | None = None,
        room: str | None = None,
        timeout: float = ASK_SECONDS,
        on_chunk: Callable[[Piece], None] | None = None,
    ) -> dict[str, Any]:
        """One reply: ``{"id", "from", "text", "data"}``. `on_chunk` gets its pieces as they are made, in order,
        and never mixed with those of an earlier try: where `restarted` is set, what came before is void."""
        envelope = Envelope(
            id=new_id(),
            sender=self._bus.name,
            to=agent,
            room=room or OPERATOR,
            kind="ask",
            body=pack(Content(text, dict(data or {}))),
            deadline=int((time.time() + timeout) * 1000),
        )

        pieces = PieceReader()

        def chunk(envelope: Envelope) -> None:
            piece = pieces.take(read_body(envelope, Content))
            if piece is not None and on_chunk is not None:
                on_chunk(piece)

        try:
            reply = await self._request("ask", envelope, timeout, chunk if on_chunk else None)
        except TooLate:
            raise TooLate(
                f"{agent} did not answer within {timeout:g} s; ask again, or give it longer."
            ) from None
        content = read_body(reply, Content)
        return {"id": envelope.id, "from": reply.sender, "text": content.text, "data": content.data}

    async def tell(
        self,
        agent: str,
        text: str,
        *,
        data: Mapping[str, Any] | None = None,
        room: str | None = None,
        ttl: float | None = None,
        id: str | None = None,
    ) -> dict[str, Any]:
        """``{"id", "status": "accepted"}``. A retry with the same `id` is never a second message."""
        return await self._call(
            "tell", agent=agent, text=text, data=data, room=room, ttl=ttl, id=id or new_id()
        )

    async def announce(
        self,
        text: str,
        *,
        data: Mapping[str, Any] | None = None,
        to: str = "all",
        sender: str | None = None,
        wait: float = 0.0,
    ) -> dict[str, Any]:
        """``{"id", "recipients", "handled", "pending", "missing"}`` after at most `wait` seconds. `to`: ``all``,
        ``group:x``, ``role:x`` (all that offer it) or ``children``."""
        return await self._call(
            "announce",
            QUERY_SECONDS + wait,
            text=text,
            data=data,
            to=to,
            wait=wait,
            id=new_id(),
            **on_behalf_of(sender),
        )

    async def announcement(self, id: str, *, wait: float = 0.0) -> dict[str, Any]:
        """The report of an announcement that was made before, after at most `wait` seconds."""
        return await self._call("announce_report", QUERY_SECONDS + wait, id=id, wait=wait)

    # ── what is ───────────────────────────────────────────────────────────────────────────────────
    async def ps(self) -> list[dict[str, Any]]:
        """A row for each instance, and one for each agent without any."""
        return await self._rows("ps")

    async def tree(self) -> list[dict[str, Any]]:
        """The roots, each with its `children`."""
        return await self._rows("tree")

    async def message(self, id: str) -> dict[str, Any]:
        return await self._call("message_show", id=id)

    async def inbox(self, agent: str, *, limit: int = 10) -> dict[str, Any]:
        return await self._call("inbox", agent=agent, limit=limit)

    async def ping(self) -> dict[str, Any]:
        """Which coordinator is active: ``{"coordinator", "epoch", "agents", "instances", "nodes"}``."""
        return await self._call("ping")

    async def stats(self) -> dict[str, Any]:
        return await self._call("stats")

    async def diagnose(self, agent: str, *, wait: float = 3.0) -> dict[str, Any]:
        """How each instance says it is, and which are silent for `wait` seconds (coordinator/diagnosis.py)."""
        return await self._call("diagnose", QUERY_SECONDS + wait, agent=agent, timeout=wait)

    # ── how ───────────────────────────────────────────────────────────────────────────────────────
    async def _call(self, verb: str, within: float = QUERY_SECONDS, /, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await self._ask_control(verb, within, arguments)
        return answer

    async def _rows(self, verb: str, **arguments: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = await self._ask_control(verb, QUERY_SECONDS, arguments)
        return rows

    async def _ask_control(self, verb: str, within: float, arguments: Mapping[str, Any]) -> Any:
        given = {name: value for name, value in arguments.items() if value is not None}
        envelope = Envelope(
            id=new_id(),
            sender=self._bus.name,
            to="coordinator",
            room="control",
            kind="control",
            body=pack(Command(given)),
        )
        try:
            reply = await self._request(verb, envelope, within)
        except TooLate:
            raise TooLate(
                f"The coordinator did not answer {verb!r} within {within:g} s; see `swarm logs coordinator`."
            ) from None
        return msgspec.msgpack.decode(reply.body)

    async def _request(
        self,
        verb: str,
        envelope: Envelope,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope:
        """Ask, and again while no coordinator listens: one is being replaced. Nobody heard the first, so a second
        is not a repetition."""
        subject = self._subjects.ctl(self._bus.name, verb)
        deadline = time.monotonic() + timeout
        patience = time.monotonic() + SUCCESSION_SECONDS
        while True:
            try:
                return await self._bus.request(
                    subject, envelope, timeout=deadline - time.monotonic(), on_chunk=on_chunk
                )
            except NobodyThere as error:
                if error.reason == "absent" or time.monotonic() > min(deadline, patience) - 0.2:
                    raise
            await self._pause(0.2)


class Asker(Protocol):
    """The part of a bus that a client needs."""

    @property
    def name(self) -> str: ...

    async def request(
        self,
        subject: str,
        envelope: Envelope,
        *,
        timeout: float,
        on_chunk: Callable[[Envelope], None] | None = None,
    ) -> Envelope: ...


def _access(project: Project) -> tuple[RunState, Credentials]:
    """Where the swarm of a project is, and who we are there."""
    from bus.credentials import Credentials

    state = project.require_state()
    try:
        return state, Credentials.load(project.operator_file)
    except FileNotFoundError:
        raise _silent(project) from None


def _has_supervisor(state: RunState) -> bool:
    """Whether the process that keeps the servers running is there."""
    if state.supervisor.pid <= 0:
        return False
    try:
        os.kill(state.supervisor.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _silent(project: Project) -> NotRunning:
    return NotRunning(f"The swarm in {project.folder} does not answer; start it again with `swarm up`.")


def _with_loop(project: Project, work: Callable[[Swarm], Coroutine[Any, Any, Result]]) -> Result:
    """As `Swarm.once`, for what a plain socket cannot do, such as TLS."""
    import asyncio

    async def connected() -> Result:
        async with Swarm.connect(project) as swarm:
            return await work(swarm)

    return asyncio.run(connected())


def _drive(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine that never really waits."""
    try:
        work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
    work.close()
    raise RuntimeError("this work awaits something that needs an event loop; use Swarm.connect")


async def _sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - there is no loop that it could hold up
