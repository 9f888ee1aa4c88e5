"""Places: which claimed delivery goes to which instance, and when. No database in here, and no waiting.

A claimed delivery that cannot be placed yet (its instance is full, its lane sticks elsewhere or waits a little,
it is a suspect waiting for an empty instance) is *held*, at most one capacity's worth for each agent. What
cannot stay held is noted in `given_back` and `crashed`, which the router hands to the ledger in its next pass.
"""

from __future__ import annotations

import logging

from bus.envelope import Envelope, pack
from bus.errors import BadMessage
from bus.subjects import Subjects
from coordinator.balance import Balancer, rendezvous
from coordinator.directory import Directory
from coordinator.lanes import Flight, Lanes
from coordinator.metrics import Metrics
from coordinator.outbox import Outbox
from coordinator.presence import Instance, Presence
from swarm.records import Balance, Dispatch

log = logging.getLogger(__name__)


class Places:
    def __init__(
        self,
        outbox: Outbox,
        subjects: Subjects,
        directory: Directory,
        presence: Presence,
        metrics: Metrics,
        batch: int,
    ) -> None:
        self._outbox = outbox
        self._subjects = subjects
        self._directory = directory
        self._presence = presence
        self._metrics = metrics
        self._batch = batch
        self._held: dict[str, list[Dispatch]] = {}
        self._balancers: dict[str, Balancer] = {}
        self.lanes = Lanes(presence.clock)
        self.given_back: set[int] = set()
        self.crashed: set[int] = set()

    def load(self, instance: Instance) -> int:
        return self.lanes.load(instance.name)

    def pick(self, agent: str, room: str) -> Instance | None:
        """An instance for an ask in this room; None when none is ready. Asks take no place, so that here
        the instances' own beats count as well."""

        def busy(instance: Instance) -> int:
            beat = instance.beat
            return max(self.load(instance), 0 if beat is None else beat.in_flight + beat.queued)

        members = self._presence.in_time(self._presence.ready(agent))
        if not members:
            return None
        sticky = self.lanes.instance_of(agent, room)
        if sticky is not None:
            for member in members:
                if member.name == sticky:
                    return member
        return self._balancer(agent).pick(
            self._how(agent),
            room,
            members,
            load=busy,
            can_take=lambda i: True,
        )

    def free(self, agent: str) -> int:
        """How many deliveries could be placed or held now."""
        ready = self._presence.ready(agent)
        room = sum(max(0, i.capacity - self.lanes.load(i.name)) for i in ready)
        bound = sum(i.capacity for i in ready) - len(self._held.get(agent, ()))
        return min(room, max(0, bound), self._batch)

    def place(self, agent: str) -> None:
        """Send what can be sent of what is held for this agent, in order; the rest stays held."""
        held = self._held.pop(agent, None)
        if not held:
            return
        members = self._presence.ready(agent)
        if not members:
            # It waits in the ledger, where it is seen and can expire; but giving a task back costs an attempt.
            self.given_back.update(dispatch.delivery for dispatch in held if dispatch.kind != "task")
            if tasks := [dispatch for dispatch in held if dispatch.kind == "task"]:
                self._held[agent] = tasks
            return
        held.sort(key=lambda dispatch: dispatch.delivery)
        by_name = {member.name: member for member in members}
        blocked: set[str] = set()
        reserved: set[str] = set()
        keep: list[Dispatch] = []
        for dispatch in held:
            if dispatch.room in blocked or self.lanes.seconds_to_wait(agent, dispatch.room) > 0:
                instance = None
            else:
                instance = self._choose(agent, dispatch, members, by_name, reserved)
            if instance is None:
                blocked.add(dispatch.room)
                keep.append(dispatch)
            else:
                self._dispatch(instance, dispatch)
        if keep:
            self._held[agent] = keep

    def _choose(
        self,
        agent: str,
        dispatch: Dispatch,
        members: list[Instance],
        by_name: dict[str, Instance],
        reserved: set[str],
    ) -> Instance | None:
        suspect = dispatch.crashes > 0

        if is_result(dispatch) and members:
            # Turns that hold places may wait for it: waiting for a place here could be for ever.
            return by_name.get(self.lanes.instance_of(agent, dispatch.room) or "") or members[0]

        def can_take(instance: Instance) -> bool:
            load = self.lanes.load(instance.name)
            if instance.name in reserved or self.lanes.has_suspect(instance.name):
                return False
            return load == 0 if suspect else load < instance.capacity

        sticky = self.lanes.instance_of(agent, dispatch.room)
        if sticky is not None:
            member = by_name.get(sticky)
            candidates = [] if member is None else [member]  # it drains: the lane waits for its end
        elif self._how(agent) == "room":
            candidates = members  # a room keeps its instance for as long as that lives
        else:
            candidates = self._presence.in_time(members)
        chosen = self._balancer(agent).pick(
            self._how(agent), dispatch.room, candidates, load=self.load, can_take=can_take
        )
        if chosen is None and suspect and candidates:
            # Keep one instance free for it, else younger messages would keep it busy for ever.
            if self._how(agent) == "room":
                reserved.add(rendezvous(dispatch.room, candidates).name)
            else:
                reserved.add(min(candidates, key=self.load).name)
        return chosen

    def _dispatch(self, instance: Instance, dispatch: Dispatch) -> None:
        try:
            envelope = dispatch_envelope(dispatch)
        except BadMessage as error:  # the ledger should hold nothing like it; never end the loop on it
            self._metrics.bad_messages += 1
            log.exception("Delivery %d cannot be sent: %s", dispatch.delivery, error)
            self.crashed.add(dispatch.delivery)
            return
        now = self._presence.clock()
        self.lanes.enter(Flight(dispatch.delivery, instance.agent, instance.name, now, dispatch))
        # Nobody but the replicas themselves knows which of them waits for a result: all hear of it, also
        # those that drain; the first to commit it ends it, the others' copies change nothing.
        others = self._presence.of(instance.agent) if is_result(dispatch) else ()
        for name in {instance.name, *others}:
            self._outbox.send(self._subjects.down(instance.agent, name), envelope)
        self._metrics.dispatched += 1

    def hold(self, dispatch: Dispatch) -> None:
        """To be placed with the next `place` of its recipient."""
        self._held.setdefault(dispatch.recipient, []).append(dispatch)

    def give_back_held(self, agent: str, room: str | None) -> None:
        """What is held in this room (None: in any) goes back to the ledger; tasks stay: each is alone in its room."""
        held = self._held.get(agent, ())
        back = [d for d in held if d.kind != "task" and room in (None, d.room)]
        self.given_back.update(dispatch.delivery for dispatch in back)
        for dispatch in back:
            self.drop(agent, dispatch.delivery)

    def held(self, agent: str) -> list[int]:
        return [dispatch.delivery for dispatch in self._held.get(agent, ())]

    def held_by_all(self) -> list[int]:
        return [dispatch.delivery for waiting in self._held.values() for dispatch in waiting]

    def drop(self, agent: str, delivery: int) -> None:
        held = self._held.get(agent)
        if held:
            held[:] = [dispatch for dispatch in held if dispatch.delivery != delivery]

    def _balancer(self, agent: str) -> Balancer:
        return self._balancers.setdefault(agent, Balancer())

    def _how(self, agent: str) -> Balance:
        record = self._directory.get(agent)
        return "room" if record is None else record.balance


def is_result(dispatch: Dispatch | None) -> bool:
    return dispatch is not None and dispatch.kind == "result"


def dispatch_envelope(dispatch: Dispatch) -> Envelope:
    """A delivery as its recipient gets it. Raises BadMessage."""
    return Envelope(
        id=dispatch.id,
        sender=dispatch.sender,
        to=dispatch.recipient,
        room=dispatch.room,
        kind=dispatch.kind,
        body=pack(dispatch.content),
        in_reply_to=dispatch.in_reply_to,
        deadline=dispatch.expires_at,
        hops=min(dispatch.hops, 255),
        origin=dispatch.origin,
        traceparent=dispatch.traceparent,
        delivery=dispatch.delivery,
        attempt=min(dispatch.attempt, 10_000),
    )
