"""What operators can have done: one method a verb, its arguments a struct, its answer a plain value.

A request is a `Command` on ``ctl.<operator>.<verb>``; the shapes of the answers are those that the command
line prints (see the docstring of each verb). Whoever stands at the command line is `operator` in the ledger,
or speaks for a known agent where a verb takes ``as``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from bus.bus import Bus
from bus.envelope import Envelope, pack, read_body
from bus.errors import BadMessage, BusError, Failed, Refused, TooLate
from coordinator.asks import Asks
from coordinator.broadcast import Broadcast
from coordinator.delegation import Delegation
from coordinator.directory import Directory
from coordinator.hierarchy import Hierarchy
from coordinator.metrics import Metrics
from coordinator.offline import Offline
from coordinator.outbox import Outbox
from coordinator.presence import Presence
from coordinator.router import Router
from coordinator.running import Running
from swarm.errors import StoreDown, StoreError, SwarmError, Unknown, UsageError, near
from swarm.ids import new_id
from swarm.ledger import LeaseLost, Ledger
from swarm.protocol import Command
from swarm.records import OPERATOR, Content, MessageView, Outgoing

log = logging.getLogger(__name__)

Wait = Annotated[float, Meta(ge=0, le=86_400)]
Limit = Annotated[int, Meta(ge=0, le=1000)]
Text = Annotated[str, Meta(max_length=1_000_000)]
Args = TypeVar("Args", bound=msgspec.Struct)


class NoArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class AgentArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str


class PsArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    all: bool = True


class AskArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    text: Text = ""
    data: dict[str, Any] = {}
    room: str = OPERATOR
    timeout: Wait = 30.0


class TellArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    text: Text = ""
    data: dict[str, Any] = {}
    room: str = OPERATOR
    ttl: Wait | None = None
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class AnnounceArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    text: Text = ""
    data: dict[str, Any] = {}
    room: str = "all"
    wait: Wait = 0.0
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class DelegateArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    goal: Text
    input: dict[str, Any] = {}
    deadline: Wait | None = None
    wait: bool = False
    timeout: Wait = 300.0
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    id: str | None = None
    sender: str | None = msgspec.field(name="as", default=None)


class IdArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str


class InboxArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    limit: Limit = 10


class LimitArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    limit: Limit = 100


class TaskWaitArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str
    timeout: Wait = 300.0


class RunArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    timeout: Wait = 30.0


class ConvergeArgs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    wait: Wait = 0.0


class Control:
    def __init__(
        self,
        epoch: int,
        holder: str,
        bus: Bus,
        ledger: Ledger,
        outbox: Outbox,
        directory: Directory,
        presence: Presence,
        router: Router,
        asks: Asks,
        offline: Offline,
        broadcast: Broadcast,
        hierarchy: Hierarchy,
        delegation: Delegation,
        running: Running,
        metrics: Metrics,
    ) -> None:
        self._epoch = epoch
        self._holder = holder
        self._bus = bus
        self._ledger = ledger
        self._outbox = outbox
        self._directory = directory
        self._presence = presence
        self._router = router
        self._asks = asks
        self._offline = offline
        self._broadcast = broadcast
        self._hierarchy = hierarchy
        self._delegation = delegation
        self._running = running
        self._metrics = metrics
        self._verbs: Final[dict[str, tuple[type[Any], Callable[[Any], Awaitable[Any]]]]] = {
            "ping": (NoArgs, self.ping),
            "ps": (PsArgs, self.ps),
            "tree": (NoArgs, self.tree),
            "stats": (NoArgs, self.stats),
            "ask": (AskArgs, self.ask),
            "tell": (TellArgs, self.tell),
            "announce": (AnnounceArgs, self.announce),
            "delegate": (DelegateArgs, self.delegate),
            "message_show": (IdArgs, self.message_show),
            "inbox": (InboxArgs, self.inbox),
            "task_ls": (LimitArgs, self.task_ls),
            "task_show": (IdArgs, self.task_show),
            "task_wait": (TaskWaitArgs, self.task_wait),
            "stop": (RunArgs, self.stop),
            "start": (RunArgs, self.start),
            "restart": (RunArgs, self.restart),
            "converge": (ConvergeArgs, self.converge),
        }

    async def run(self, verb: str, request: Envelope, reply: str) -> None:
        """Do what was asked and answer at `reply`, which has been checked. Raises LeaseLost only."""
        try:
            left = request.seconds_left()
            if left is not None and left <= 0:
                raise TooLate("The deadline of this request has passed.")
            if verb not in self._verbs:
                raise Refused(f"There is no request {verb!r}{near(verb, self._verbs)}", reason="unknown_verb")
            kind, method = self._verbs[verb]
            value = await method(_read(verb, request, kind))
        except LeaseLost:
            raise  # without an answer: the new holder of the lease has heard the request, too
        except (BusError, SwarmError) as error:
            self._outbox.fail(request, reply, as_bus_error(error))
        except ExceptionGroup as group:
            if group.subgroup(LeaseLost) is not None:
                raise
            log.exception("The request %s failed", verb)
            self._outbox.fail(
                request, reply, Failed(f"The request {verb} failed; see the coordinator's log.")
            )
        else:
            self._outbox.answer(request, reply, value)

    # ── looking ───────────────────────────────────────────────────────────────────────────────────
    async def ping(self, args: NoArgs) -> dict[str, Any]:
        """`{"coordinator", "epoch", "agents", "instances", "nodes"}`; the last three are counts."""
        return {
            "coordinator": self._holder,
            "epoch": self._epoch,
            "agents": sum(1 for _ in self._directory),
            "instances": len(self._presence.instances),
            "nodes": len(self._presence.nodes),
        }

    async def ps(self, args: PsArgs) -> list[dict[str, Any]]:
        """A row for each instance; with `all`, one for each agent without any, too."""
        rows = self._running.rows(await self._ledger.waiting())
        return rows if args.all else [row for row in rows if row["instance"]]

    async def tree(self, args: NoArgs) -> list[dict[str, Any]]:
        return self._hierarchy.tree()

    async def stats(self, args: NoArgs) -> dict[str, Any]:
        """`{"coordinator": counters, "routing": {...}, "ledger": {"deliveries.handled": n, …}}`."""
        return {
            "epoch": self._epoch,
            "coordinator": self._metrics.as_dict(),
            "routing": self._router.stats(),
            "ledger": await self._ledger.stats(),
        }

    async def message_show(self, args: IdArgs) -> dict[str, Any]:
        """`{"id", "from", "to", "deliveries": [{"to", "state", "attempts", "reason"}], …}`."""
        view = await self._ledger.message(args.id)
        if view is None:
            raise Refused(f"There is no message {args.id}; check the id.", reason="unknown_message")
        return message_row(view)

    async def inbox(self, args: InboxArgs) -> dict[str, Any]:
        return await self._offline.inbox(self._name(args.agent), args.limit)

    async def task_ls(self, args: LimitArgs) -> list[dict[str, Any]]:
        return await self._delegation.list(args.limit)

    async def task_show(self, args: IdArgs) -> dict[str, Any]:
        return await self._delegation.show(args.id)

    async def task_wait(self, args: TaskWaitArgs) -> dict[str, Any]:
        return await self._delegation.wait(args.id, args.timeout)

    # ── saying ────────────────────────────────────────────────────────────────────────────────────
    async def ask(self, args: AskArgs) -> dict[str, Any]:
        """`{"id", "from", "text", "data"}`. To stream, send an envelope of kind ``ask`` instead."""
        ask = Envelope(
            id=new_id(),
            sender=OPERATOR,
            to=args.agent,
            room=args.room,
            kind="ask",
            body=pack(Content(text=args.text, data=args.data)),
            deadline=int((time.time() + args.timeout) * 1000),
        )
        reply = await self._asks.ask(self._bus, ask, args.timeout)
        content = read_body(reply, Content)
        return {"id": ask.id, "from": reply.sender, "text": content.text, "data": content.data}

    async def tell(self, args: TellArgs) -> dict[str, Any]:
        """`{"id", "status": "accepted", "recipients": [names]}`."""
        sender = self._hierarchy.on_behalf_of(args.sender)
        message = Outgoing(
            id=args.id or new_id(),
            to=args.agent,
            room=args.room,
            content=Content(text=args.text, data=args.data),
            expires_at=None if args.ttl is None else int((time.time() + args.ttl) * 1000),
        )
        [receipt] = await self._ledger.accept(sender, [message])
        self._router.ring(receipt.recipients)
        return {"id": receipt.id, "status": "accepted", "recipients": list(receipt.recipients)}

    async def announce(self, args: AnnounceArgs) -> dict[str, Any]:
        """`{"id", "recipients": n, "handled": k, "pending": [names], "reasons": {name: why}}`."""
        return await self._broadcast.announce(
            self._hierarchy.on_behalf_of(args.sender),
            Content(text=args.text, data=args.data),
            room=args.room,
            wait=args.wait,
            id=args.id,
        )

    async def delegate(self, args: DelegateArgs) -> dict[str, Any]:
        """`{"id", "state", "attempts", "result", "error"}`; with `wait`, when it has ended or `timeout` is over."""
        task = await self._delegation.delegate(
            self._hierarchy.on_behalf_of(args.sender),
            args.agent,
            args.goal,
            input=args.input,
            deadline_seconds=args.deadline,
            max_attempts=args.max_attempts,
            id=args.id,
        )
        return await self._delegation.wait(task["id"], args.timeout) if args.wait else task

    # ── running ───────────────────────────────────────────────────────────────────────────────────
    async def stop(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.stop(self._name(args.agent), args.timeout)

    async def start(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.start(self._name(args.agent), args.timeout)

    async def restart(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.restart(self._name(args.agent), args.timeout)

    async def converge(self, args: ConvergeArgs) -> dict[str, Any]:
        return await self._running.converge(args.wait)

    def _name(self, address: str) -> str:
        return self._directory.named(address).name


def _read(verb: str, request: Envelope, kind: type[Args]) -> Args:
    """The arguments as `kind`. Raises Refused (reason ``usage``) with what is wrong with them."""
    try:
        command = read_body(request, Command)
        return msgspec.convert(command.args, kind)
    except (BadMessage, msgspec.ValidationError) as error:
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) or "nothing"
        raise Refused(f"{verb} takes {names}: {error}.", reason="usage") from error


def as_bus_error(error: BusError | SwarmError) -> BusError:
    """An error of the runtime as one that the wire carries; `reason` says which it was."""
    match error:
        case BusError():
            return error
        case UsageError():
            return Refused(error.text, reason="usage")
        case StoreDown():
            return Failed(error.text, reason="store_down")
        case Unknown():
            return Failed(error.text, reason="unknown")
        case LeaseLost():
            return Failed("Another coordinator has taken over; ask again.", reason="lease_lost")
        case StoreError():
            return Failed(error.text, reason=error.reason or "store")
    return Failed(error.text, reason=error.reason or "failed")


def message_row(view: MessageView) -> dict[str, Any]:
    return {
        "id": view.id,
        "from": view.sender,
        "to": view.to,
        "room": view.room,
        "kind": view.kind,
        "text": view.content.text,
        "data": view.content.data,
        "accepted_at": view.accepted_at,
        "deliveries": [
            {
                "to": delivery.to,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "reason": delivery.reason,
                "handled_at": delivery.handled_at,
            }
            for delivery in view.deliveries
        ],
    }
