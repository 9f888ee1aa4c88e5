"""The doors: what agents, nodes and operators say, taken in and handed to the room it concerns.

The sender of everything is the token of the subject, which the server authorised; an envelope that names
another is refused. Handlers here run on the bus's own time and never wait: what must wait is spawned.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from bus.bus import Incoming
from bus.envelope import read_body
from bus.errors import BadMessage, BusError, Failed, Refused
from bus.subjects import Subjects
from coordinator.asks import Asks
from coordinator.control import Control, as_bus_error
from coordinator.directory import REFRESH_SECONDS, Directory
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox, control
from coordinator.placement import Placer
from coordinator.presence import Presence
from coordinator.progress import Progress
from coordinator.requests import Requests
from coordinator.roll import Roll
from coordinator.router import Router
from coordinator.sleeping import Sleeping
from coordinator.spawning import Spawning
from swarm import protocol
from swarm.errors import StoreError, SwarmError, UnknownAgent
from swarm.failpoints import reached
from swarm.ledger import LeaseLost, Ledger
from swarm.protocol import Beat, Bell, Exited, Goodbye, Hello, NodeBeat, Welcome
from swarm.records import OPERATOR, Content, Outgoing

log = logging.getLogger(__name__)

"""Gives a coroutine an owner; False (and it is closed) when too many run."""
BUSY: Final = "The coordinator has too many requests at once; try again in a moment."


class Doors:
    def __init__(
        self,
        epoch: int,
        ledger: Ledger,
        outbox: Outbox,
        subjects: Subjects,
        directory: Directory,
        presence: Presence,
        router: Router,
        asks: Asks,
        roll: Roll,
        placer: Placer,
        control: Control,
        spawning: Spawning,
        sleeping: Sleeping,
        progress: Progress,
        metrics: Metrics,
        requests: Requests,
        may_speak: Callable[[], bool],
    ) -> None:
        self._epoch = epoch
        self._ledger = ledger
        self._outbox = outbox
        self._subjects = subjects
        self._directory = directory
        self._presence = presence
        self._router = router
        self._asks = asks
        self._roll = roll
        self._placer = placer
        self._control = control
        self._spawning = spawning
        self._sleeping = sleeping
        self._progress = progress
        self._metrics = metrics
        self._requests = requests
        self._may_speak = may_speak

    # ── agents ────────────────────────────────────────────────────────────────────────────────────
    def from_agent(self, incoming: Incoming) -> None:
        sender, verb = self._enter(incoming)
        if sender is None:
            return
        try:
            match verb:
                case "ask":
                    self._ask(sender, incoming, sender)
                case "bell":
                    self._bell(sender, read_body(incoming.envelope, Bell))
                case "beat":
                    self._beat(sender, read_body(incoming.envelope, Beat))
                case "hello":
                    said = read_body(incoming.envelope, Hello)
                    if sender in self._directory:
                        self._hello(sender, said, incoming)
                    else:
                        self._try_spawn(sender, incoming, self._hello_of_a_stranger(sender, said, incoming))
                case "goodbye":
                    bye = read_body(incoming.envelope, Goodbye)
                    self._router.returned(sender, bye.instance, bye.returned)
                    self._roll.gone(sender, bye.instance, crashed=False, why="it said goodbye")
                case "tell":
                    self._try_spawn(sender, incoming, self._tell(sender, incoming))
                case "spawn":
                    wish = read_body(incoming.envelope, protocol.Spawn)
                    self._do(sender, incoming, lambda: self._spawning.spawn(sender, wish.child, wish.wait))
                case "child":
                    command = read_body(incoming.envelope, protocol.ChildCommand)
                    self._do(sender, incoming, lambda: self._spawning.command(sender, command))
                case _:
                    self._refuse(sender, incoming, Refused(f"Agents cannot {verb}.", reason="unknown_verb"))
        except BadMessage as error:
            self._metrics.bad_messages += 1
            self._refuse(sender, incoming, error)

    def _ask(self, owner: str, incoming: Incoming, sender: str) -> None:
        """At once to who is ready; whoever sleeps is started first, within the ask's deadline."""
        if coming := self._sleeping.awaits(incoming.envelope, sender):
            self._try_spawn(owner, incoming, self._ask_later(owner, incoming, sender, coming))
        else:
            self._asks.route(owner, incoming, sender)

    async def _ask_later(self, owner: str, incoming: Incoming, sender: str, coming: list[str]) -> None:
        await self._sleeping.start(coming, incoming.envelope)
        self._asks.route(owner, incoming, sender)

    def _hello(self, agent: str, said: Hello, incoming: Incoming) -> None:
        try:
            instance, new = self._presence.hello(agent, said)
        except ValueError as error:
            self._refuse(agent, incoming, Refused(f"This hello is refused: {error}.", reason="not_yours"))
            return
        self._metrics.hellos += 1
        if new:
            log.info("Instance %s of %s is ready.", instance.name, agent)
        welcome = Welcome(epoch=self._epoch, beat_seconds=self._presence.beat_seconds)
        reply = None if incoming.reply is None else self._asks.reply_of(agent, incoming)
        if reply is not None:
            self._outbox.answer(incoming.envelope, reply, welcome, kind="control")
        self._router.hello(instance, said.in_flight)
        self._progress.changed()

    async def _hello_of_a_stranger(self, agent: str, said: Hello, incoming: Incoming) -> None:
        """It may have been provisioned after we last looked."""
        await self._look_again()
        if agent in self._directory:
            self._hello(agent, said, incoming)
        else:
            self._refuse(agent, incoming, UnknownAgent(agent, (record.name for record in self._directory)))

    def _beat(self, agent: str, beat: Beat) -> None:
        before = self._presence.of(agent).get(beat.instance)
        status = None if before is None else before.status
        instance = self._presence.beat(agent, beat)
        if instance is None:
            self._roll.call(agent, beat.instance)
            return
        if status != instance.status:
            self._router.places_changed(agent)
            if instance.status == "ready":
                self._router.ring((agent,))
            self._progress.changed()
        self._roll.compare(instance, beat)

    def _bell(self, agent: str, bell: Bell) -> None:
        reached("coordinator.bell")
        self._router.done(agent, bell.instance, bell.done)
        if bell.returned:
            for flight in self._router.returned(agent, bell.instance, bell.returned):
                self._roll.call(flight.agent, flight.instance)
        if bell.recall:
            self._router.recall.set()
        if bell.to:
            self._router.ring(bell.to)
            strangers = [name for name in bell.to if name not in self._directory and name != OPERATOR]
            if strangers:
                self._requests.take(agent, self._ring_strangers(strangers))
        self._progress.changed()

    async def _ring_strangers(self, names: Iterable[str]) -> None:
        await self._look_again()
        self._router.ring(names)

    async def _tell(self, sender: str, incoming: Incoming) -> None:
        """A tell or announcement of an agent without a store: `body` is a Content, the deadline its expiry."""
        said = incoming.envelope
        reply = self._asks.reply_of(sender, incoming)
        try:
            if said.kind not in ("tell", "announce"):
                raise Refused(f"A {said.kind} cannot be told; tell and announce can.", reason="bad_kind")
            message = Outgoing(
                id=said.id,
                to=said.to,
                room=said.room,
                content=read_body(said, Content),
                kind=said.kind,
                in_reply_to=said.in_reply_to,
                expires_at=said.deadline,
                hops=said.hops,
                origin=said.origin,
                traceparent=said.traceparent,
            )
            reached("coordinator.accept.before")
            [receipt] = await self._ledger.accept(sender, [message])
            reached("coordinator.accept.after")
        except LeaseLost:
            raise
        except (BusError, SwarmError) as error:
            if reply is not None:
                self._outbox.fail(said, reply, as_bus_error(error))
            return
        self._router.ring(receipt.recipients)
        if reply is not None:
            self._outbox.answer(said, reply, receipt)

    # ── nodes ─────────────────────────────────────────────────────────────────────────────────────
    def from_node(self, incoming: Incoming) -> None:
        sender, verb = self._enter(incoming)
        if sender is None:
            return
        try:
            if verb in ("hello", "beat"):
                said = read_body(incoming.envelope, NodeBeat)
                self._require_node(sender, said.node)
                node, new, gone = self._presence.node_beat(said)
                for instance in gone:
                    self._roll.gone(
                        instance.agent, instance.name, crashed=True, why="its node has no such process"
                    )
                self._placer.beat(node, new=new or verb == "hello")
            elif verb == "login":
                login = read_body(incoming.envelope, protocol.Login)
                self._require_node(sender, login.node)
                self._do(sender, incoming, lambda: self._spawning.login(login))
            elif verb == "enrol":
                enrol = read_body(incoming.envelope, protocol.Enrol)
                self._require_node(sender, enrol.node)
                self._pass_on(sender, enrol, incoming)
            elif verb == "exit":
                exited = read_body(incoming.envelope, Exited)
                self._require_node(sender, exited.node)
                known = self._presence.of(exited.agent).get(exited.instance)
                if known is not None and known.node in ("", sender):
                    self._roll.gone(
                        exited.agent, exited.instance, crashed=exited.crashed, why=exited.reason or "it ended"
                    )
            else:
                raise Refused(f"Nodes cannot {verb}.", reason="unknown_verb")
        except BusError as error:
            self._metrics.bad_messages += 1
            self._refuse(sender, incoming, error)
        self._progress.changed()

    def _pass_on(self, sender: str, enrol: protocol.Enrol, incoming: Incoming) -> None:
        """To a node that has the keys: it answers by itself, so they never come by here."""
        reply = self._asks.reply_of(sender, incoming)
        givers = sorted(node.name for node in self._presence.nodes.values() if node.enrols)
        if not givers:
            raise Failed(
                "No node that holds the swarm's keys is here to let others join; start it with `swarm up`.",
                reason="no_authority",
            )
        self._outbox.send(self._subjects.node_down(givers[0]), control(givers[0], enrol), reply)

    @staticmethod
    def _require_node(sender: str, named: str) -> None:
        if named != sender:
            raise Refused(f"{sender} cannot speak for node {named}.", reason="forged_sender")

    # ── operators ─────────────────────────────────────────────────────────────────────────────────
    def from_operator(self, incoming: Incoming) -> None:
        sender, verb = self._enter(incoming)
        if sender is None:
            return
        if verb == "ask" and incoming.envelope.kind == "ask":
            self._ask(sender, incoming, OPERATOR)
            return
        reply = self._asks.reply_of(sender, incoming)
        if reply is None:
            return  # whoever cannot be answered does not command
        self._metrics.commands += 1
        self._try_spawn(sender, incoming, self._control.run(verb, incoming.envelope, reply))

    # ── all ───────────────────────────────────────────────────────────────────────────────────────
    def _enter(self, incoming: Incoming) -> tuple[str | None, str]:
        sender, verb = self._subjects.door(incoming.subject)
        if not self._may_speak():
            return None, verb  # our lease has run out, and its new holder hears this, too
        if incoming.envelope.sender == sender:
            return sender, verb
        self._metrics.forged_senders += 1
        log.warning("%s sent a message in the name of %s; refused.", sender, incoming.envelope.sender)
        error = Refused(
            f"You are {sender} here and cannot send in the name of {incoming.envelope.sender}.",
            reason="forged_sender",
        )
        self._refuse(sender, incoming, error)
        return None, verb

    def _refuse(self, sender: str, incoming: Incoming, error: BusError) -> None:
        log.info("Refused %s: %s", sender, error)
        if incoming.reply is not None:
            reply = self._asks.reply_of(sender, incoming)
            if reply is not None:
                self._outbox.fail(incoming.envelope, reply, error)

    def _try_spawn(self, sender: str, incoming: Incoming, work: Coroutine[Any, Any, None]) -> None:
        if not self._requests.take(sender, work):
            self._refuse(sender, incoming, Failed(BUSY, reason="busy"))

    def _do(self, sender: str, incoming: Incoming, work: Callable[[], Awaitable[Any]]) -> None:
        self._try_spawn(sender, incoming, self._answer(sender, incoming, work))

    async def _answer(self, sender: str, incoming: Incoming, work: Callable[[], Awaitable[Any]]) -> None:
        """Do it, and say what came of it, if its sender has said where. Raises LeaseLost only."""
        reply = self._asks.reply_of(sender, incoming)
        try:
            value = await work()
        except LeaseLost:
            raise
        except (BusError, SwarmError) as error:
            if reply is not None:
                self._outbox.fail(incoming.envelope, reply, as_bus_error(error))
        else:
            if reply is not None:
                self._outbox.answer(incoming.envelope, reply, value)

    async def _look_again(self) -> None:
        try:
            await self._directory.refresh(at_most_every=REFRESH_SECONDS)
        except LeaseLost:
            raise
        except StoreError as error:
            log.warning("The directory could not be read: %s", error)
