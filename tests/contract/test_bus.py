"""What every bus promises; see bus/bus.py."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from bus.bus import Incoming
from bus.envelope import MAX_BYTES, Envelope, error_body, read_body
from bus.errors import BadMessage, Disconnected, NobodyThere, Refused, TooLate
from swarm.testing import eventually, others_run
from tests.contract.conftest import AnyBus, Wire, envelope


class Answerer:
    """Listens on `pattern` as `bus` and answers each message with what `answers` gives for it."""

    def __init__(self, bus: AnyBus, answers: list[Envelope] | None = None) -> None:
        self.bus = bus
        self.answers = answers
        self.seen: list[Incoming] = []
        self._queue: asyncio.Queue[Incoming] = asyncio.Queue()

    def take(self, incoming: Incoming) -> None:
        self.seen.append(incoming)
        self._queue.put_nowait(incoming)

    async def run(self) -> None:
        while True:
            incoming = await self._queue.get()
            assert incoming.reply is not None
            echo = envelope("reply", read_body(incoming.envelope, object), self.bus.name)
            for answer in [echo] if self.answers is None else self.answers:
                await self.bus.publish(incoming.reply, answer)


async def running(group: asyncio.TaskGroup, answerer: Answerer, pattern: str) -> asyncio.Task[None]:
    await answerer.bus.subscribe(pattern, answerer.take)
    return group.create_task(answerer.run())


async def test_messages_reach_every_subscriber_in_order(wire: Wire) -> None:
    coordinator, one, two = [await wire.connect(name) for name in ("coordinator", "one", "two")]
    seen: dict[str, list[object]] = {"one": [], "two": []}

    def into(found: list[object]) -> Callable[[Incoming], None]:
        return lambda got: found.append(read_body(got.envelope, int))

    for bus in (one, two):
        await bus.subscribe(wire.subjects.all, into(seen[bus.name]))
    for number in range(500):
        await coordinator.publish(wire.subjects.all, envelope("announce", number, "coordinator"))
    await eventually(lambda: len(seen["one"]) == len(seen["two"]) == 500)
    assert seen["one"] == seen["two"] == list(range(500))


async def test_a_message_arrives_as_it_was_sent_with_subject_and_reply(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    sent = envelope(
        "tell", {"text": "ä"}, "agent", in_reply_to="x1", deadline=12, hops=3, traceparent="00-ab"
    )
    await agent.publish(wire.subjects.up("agent", "tell"), sent, reply="_INBOX.agent.z")
    await eventually(lambda: seen)
    assert seen[0].subject == "t.up.agent.tell"
    assert seen[0].reply == "_INBOX.agent.z"
    got = seen[0].envelope
    assert read_body(got, object) == {"text": "ä"}
    for field in ("id", "sender", "to", "room", "kind", "in_reply_to", "deadline", "hops", "traceparent"):
        assert getattr(got, field) == getattr(sent, field)


async def test_wildcards_stand_for_one_word_or_for_the_rest(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    stars: list[str] = []
    rests: list[str] = []
    await coordinator.subscribe("t.up.*.ask", lambda got: stars.append(got.subject))
    await coordinator.subscribe("t.up.>", lambda got: rests.append(got.subject))
    for subject in ("t.up.agent.tell", "t.up.agent.ask.more", "t.up.agent.ask"):
        await agent.publish(subject, envelope(sender="agent"))
    await eventually(lambda: len(rests) == 3)
    assert rests == ["t.up.agent.tell", "t.up.agent.ask.more", "t.up.agent.ask"]
    assert stars == ["t.up.agent.ask"]


async def test_an_ask_is_forwarded_by_the_coordinator_and_answered_straight_to_the_asker(wire: Wire) -> None:
    coordinator, asker, answerer = [await wire.connect(name) for name in ("coordinator", "asker", "answerer")]
    async with asyncio.TaskGroup() as group:
        forwards: asyncio.Queue[Incoming] = asyncio.Queue()

        async def forward() -> None:
            while True:
                got = await forwards.get()
                await coordinator.publish("t.down.answerer.1", got.envelope, reply=got.reply)

        await coordinator.subscribe(wire.subjects.every_up, forwards.put_nowait)
        tasks = [group.create_task(forward()), await running(group, Answerer(answerer), "t.down.answerer.1")]
        reply = await asker.request("t.up.asker.ask", envelope(body="hello"), timeout=5)
        assert (reply.kind, reply.sender, read_body(reply, str)) == ("reply", "answerer", "hello")
        for task in tasks:
            task.cancel()


async def test_chunks_come_before_the_reply_and_none_after_it(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    answers = [envelope("chunk", number) for number in range(300)]
    answers += [envelope("reply", "end"), envelope("chunk", "too late"), envelope("reply", "twice")]
    async with asyncio.TaskGroup() as group:
        task = await running(group, Answerer(coordinator, answers), wire.subjects.every_up)
        chunks: list[object] = []
        reply = await asker.request(
            "t.up.asker.ask",
            envelope(),
            timeout=5,
            on_chunk=lambda got: chunks.append(read_body(got, object)),
        )
        assert read_body(reply, str) == "end"
        await eventually(lambda: asker.counters["late"] == 2)
        assert chunks == list(range(300))
        task.cancel()


async def test_a_failing_on_chunk_ends_neither_the_ask_nor_the_connection(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    async with asyncio.TaskGroup() as group:
        answers = [envelope("chunk", 1), envelope("reply", 2)]
        task = await running(group, Answerer(coordinator, answers), wire.subjects.every_up)

        def fail(_chunk: Envelope) -> None:
            raise ValueError("no")

        for _ in range(2):
            reply = await asker.request("t.up.asker.ask", envelope(), timeout=5, on_chunk=fail)
            assert read_body(reply, int) == 2
        assert asker.counters["handler_errors"] == 2
        task.cancel()


async def test_asking_where_nobody_listens_fails_at_once(wire: Wire) -> None:
    asker = await wire.connect("asker")
    started = time.monotonic()
    with pytest.raises(NobodyThere):
        await asker.request("t.up.asker.ask", envelope(), timeout=60)
    assert time.monotonic() - started < 10


async def test_an_ask_ends_at_its_deadline_and_a_late_answer_is_dropped(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    started = time.monotonic()
    with pytest.raises(TooLate):
        await asker.request("t.up.asker.ask", envelope(), timeout=0.2)
    assert 0.15 < time.monotonic() - started < 5
    assert seen[0].reply is not None
    await coordinator.publish(seen[0].reply, envelope("reply"))
    await eventually(lambda: asker.counters["late"] == 1)
    with pytest.raises(TooLate):
        await asker.request("t.up.asker.ask", envelope(), timeout=0)


async def test_an_error_envelope_is_raised_as_the_error_it_stands_for(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    refusal = error_body(Refused("You have no such child.", reason="not_your_child"))
    answer = envelope("error")
    async with asyncio.TaskGroup() as group:
        sent = Envelope(id="e1", sender="coordinator", to="asker", room="r", kind=answer.kind, body=refusal)
        task = await running(group, Answerer(coordinator, [sent]), wire.subjects.every_up)
        with pytest.raises(Refused, match="no such child") as caught:
            await asker.request("t.up.asker.ask", envelope(), timeout=5)
        assert caught.value.reason == "not_your_child"
        task.cancel()


async def test_many_asks_at_once_each_get_their_own_answer_also_among_replicas(wire: Wire) -> None:
    coordinator, one, two = [await wire.connect(name) for name in ("coordinator", "asker", "asker")]
    async with asyncio.TaskGroup() as group:
        task = await running(group, Answerer(coordinator), wire.subjects.every_up)
        replies = await asyncio.gather(
            *(
                bus.request("t.up.asker.ask", envelope(body=[which, number]), timeout=10)
                for number in range(64)
                for which, bus in enumerate((one, two))
            )
        )
        bodies = [read_body(reply, object) for reply in replies]
        assert bodies == [[which, number] for number in range(64) for which in range(2)]
        assert one.counters["late"] == two.counters["late"] == 0
        task.cancel()


async def test_a_cancelled_ask_leaves_nothing_behind(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(asker.request("t.up.asker.ask", envelope(), timeout=60))
        await eventually(lambda: seen)
        task.cancel()
    assert not asker._asks._waiting


async def test_nothing_comes_after_a_subscription_was_stopped(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    stopped: list[Incoming] = []
    going: list[Incoming] = []
    subscription = await agent.subscribe("t.down.agent.1", stopped.append)
    await agent.subscribe("t.down.agent.1", going.append)
    await coordinator.publish("t.down.agent.1", envelope())
    await eventually(lambda: stopped and going)
    await subscription.stop()
    await subscription.stop()
    await coordinator.publish("t.down.agent.1", envelope())
    await eventually(lambda: len(going) == 2)
    assert len(stopped) == 1


async def test_a_failing_handler_is_counted_and_its_subscription_goes_on(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[object] = []

    def handle(got: Incoming) -> None:
        seen.append(read_body(got.envelope, object))
        raise RuntimeError("a bug")

    await agent.subscribe("t.down.agent.1", handle)
    for number in range(3):
        await coordinator.publish("t.down.agent.1", envelope(body=number))
    await eventually(lambda: len(seen) == 3)
    assert agent.counters["handler_errors"] == 3


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"[" * 1000, b"\x91" * 100_000, b"\xdc\xff\xff"])
async def test_what_is_no_envelope_is_refused_at_the_door_and_answered(wire: Wire, data: bytes) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[Incoming] = []
    answers: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    await agent.subscribe("_INBOX.agent.answer", answers.append)
    await wire.raw("agent", "t.up.agent.ask", data, "_INBOX.agent.answer")
    await eventually(lambda: answers)
    assert answers[0].envelope.kind == "error"
    assert coordinator.counters["bad_messages"] == 1
    await agent.publish("t.up.agent.ask", envelope())
    await eventually(lambda: seen)
    assert len(seen) == 1


async def test_a_bad_message_does_not_make_the_coordinator_write_into_a_foreign_inbox(wire: Wire) -> None:
    coordinator, victim = await wire.connect("coordinator"), await wire.connect("victim")
    hit: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, hit.append)
    await victim.subscribe("_INBOX.victim.>", hit.append)
    for reply in ("_INBOX.victim.x", "t.down.victim.1", "_INBOX.agentx.y", "_INBOX.agent"):
        await wire.raw("agent", "t.up.agent.ask", b"junk", reply)
    await eventually(lambda: coordinator.counters["bad_messages"] == 4)
    await coordinator.publish("_INBOX.victim.end", envelope(sender="coordinator"))
    await eventually(lambda: hit)
    assert [got.subject for got in hit] == ["_INBOX.victim.end"]


async def test_an_answer_that_is_no_envelope_ends_the_ask(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)

    async def ask() -> None:
        with pytest.raises(BadMessage):
            await asker.request("t.up.asker.ask", envelope(), timeout=60)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        await eventually(lambda: seen)
        await wire.raw("coordinator", str(seen[0].reply), b"junk")


@pytest.mark.parametrize(
    "subject",
    ["", "t..x", "t.up.*.ask", "t.>", "t.up.agent.a b", "t.up\r\nPUB t.down.x.1 0\r\n", "t.ü", "x" * 2000],
)
async def test_no_subject_can_carry_the_protocol_of_the_server(wire: Wire, subject: str) -> None:
    agent = await wire.connect("agent")
    with pytest.raises(BadMessage):
        await agent.publish(subject, envelope())
    with pytest.raises(BadMessage):
        await agent.request(subject, envelope(), timeout=1)
    if subject:
        with pytest.raises(BadMessage):
            await agent.publish("t.up.agent.tell", envelope(), reply=subject)
    if "*" not in subject and ">" not in subject:
        with pytest.raises(BadMessage):
            await agent.subscribe(subject, print)


async def test_the_largest_message_passes_and_a_larger_one_is_refused_with_a_sentence(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    body = "x" * (MAX_BYTES - 200)
    await agent.publish("t.up.agent.tell", envelope(body=body))
    await eventually(lambda: seen)
    assert read_body(seen[0].envelope, str) == body
    with pytest.raises(BadMessage, match="at most"):
        await agent.publish("t.up.agent.tell", envelope(body="x" * MAX_BYTES))


async def test_what_one_has_no_right_to_is_refused_and_counted(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)
    await agent.publish("t.up.other.tell", envelope())
    await eventually(lambda: agent.counters["violations"] == 1)
    with pytest.raises(Refused):
        await agent.request("t.up.other.ask", envelope(), timeout=60)
    for pattern in ("t.down.other.>", "t.up.>", ">", "_INBOX.>", "_INBOX.other.x"):
        with pytest.raises(Refused):
            await agent.subscribe(pattern, seen.append)
    await agent.publish("t.up.agent.tell", envelope())
    await eventually(lambda: seen)
    assert [got.subject for got in seen] == ["t.up.agent.tell"]


async def test_an_agent_may_answer_what_it_received_and_nobody_else(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    received: list[Incoming] = []
    answers: list[str] = []
    await agent.subscribe("t.down.agent.1", received.append)
    await coordinator.subscribe("_INBOX.coordinator.>", lambda got: answers.append(got.subject))
    await agent.publish("_INBOX.coordinator.secret", envelope())
    await eventually(lambda: agent.counters["violations"] == 1)
    await coordinator.publish("t.down.agent.1", envelope(), reply="_INBOX.coordinator.mine")
    await eventually(lambda: received)
    await agent.publish("_INBOX.coordinator.mine", envelope("reply"))
    await eventually(lambda: answers)
    assert answers == ["_INBOX.coordinator.mine"]


async def test_draining_hands_out_what_has_arrived_sends_what_is_buffered_and_closes(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    down: list[Incoming] = []
    up: list[Incoming] = []
    await agent.subscribe("t.down.agent.1", down.append)
    await coordinator.subscribe(wire.subjects.every_up, up.append)
    for _ in range(1000):
        await coordinator.publish("t.down.agent.1", envelope())
    await coordinator.publish("_INBOX.coordinator.flushed", envelope())
    await eventually(lambda: down)
    for _ in range(1000):
        await agent.publish("t.up.agent.tell", envelope())
    await agent.drain(5)
    await eventually(lambda: len(up) == 1000)
    assert len(down) == 1000
    assert not agent.connected
    async with asyncio.timeout(1):
        await agent.wait_closed()


async def test_after_the_end_every_method_says_so(wire: Wire) -> None:
    agent = await wire.connect("agent")
    await agent.close()
    await agent.close()
    await agent.drain(1)
    await agent.wait_closed()
    assert not agent.connected
    with pytest.raises(Disconnected):
        await agent.publish("t.up.agent.tell", envelope())
    with pytest.raises(Disconnected):
        await agent.request("t.up.agent.ask", envelope(), timeout=1)
    with pytest.raises(Disconnected):
        await agent.subscribe("t.down.agent.1", print)


async def test_closing_ends_the_asks_that_are_in_flight(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    seen: list[Incoming] = []
    await coordinator.subscribe(wire.subjects.every_up, seen.append)

    async def ask() -> None:
        with pytest.raises(Disconnected):
            await asker.request("t.up.asker.ask", envelope(), timeout=60)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        group.create_task(ask())
        await eventually(lambda: len(seen) == 2)
        await asker.close()


async def test_an_outage_is_told_survived_and_costs_only_what_was_sent_in_it(wire: Wire) -> None:
    states: list[bool] = []
    coordinator = await wire.connect("coordinator")
    agent = await wire.connect("agent", states.append)
    up: list[object] = []
    await coordinator.subscribe(
        wire.subjects.every_up, lambda got: up.append(read_body(got.envelope, object))
    )
    await wire.cut()
    await eventually(lambda: not agent.connected and not coordinator.connected)
    await eventually(lambda: states == [False])
    await agent.publish("t.up.agent.tell", envelope(body="lost"))
    assert agent.counters["dropped"] == 1
    started = time.monotonic()
    with pytest.raises(TooLate, match="no connection"):
        await agent.request("t.up.agent.ask", envelope(), timeout=0.2)
    assert time.monotonic() - started < 5
    await wire.heal()
    await eventually(lambda: agent.connected and coordinator.connected)
    assert states == [False, True]
    assert agent.counters["reconnects"] == 1
    await agent.publish("t.up.agent.tell", envelope(body="kept"))
    await eventually(lambda: up)
    assert up == ["kept"]


async def test_an_ask_made_in_an_outage_succeeds_if_it_ends_in_time(wire: Wire) -> None:
    coordinator, asker = await wire.connect("coordinator"), await wire.connect("asker")
    async with asyncio.TaskGroup() as group:
        answering = await running(group, Answerer(coordinator), wire.subjects.every_up)
        await wire.cut()
        await eventually(lambda: not asker.connected)

        async def ask() -> Envelope | None:
            with suppress(NobodyThere):  # the coordinator may come back later than the asker
                return await asker.request("t.up.asker.ask", envelope(body="hello"), timeout=20)
            return None

        asking = group.create_task(eventually(ask, seconds=20, what="an answer"))
        await others_run()
        await wire.heal()
        assert read_body(await asking, str) == "hello"
        answering.cancel()


async def test_a_flood_reaches_a_slow_reader_whole(wire: Wire) -> None:
    coordinator, agent = await wire.connect("coordinator"), await wire.connect("agent")
    seen: list[int] = []
    await agent.subscribe("t.down.agent.1", lambda got: seen.append(read_body(got.envelope, int)))
    for number in range(20_000):
        await coordinator.publish("t.down.agent.1", envelope(body=number))
        if number % 500 == 0:
            await others_run()
    await eventually(lambda: len(seen) == 20_000, seconds=30)
    assert seen == list(range(20_000))
