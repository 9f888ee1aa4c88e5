"""Messages find their recipients, in order, whoever dies on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from swarm.ids import new_id
from swarm.records import AgentPermissions, Content, Dispatch, NewTask, TaskOutcome, Turn
from swarm.testing import eventually
from tests.coordinator_house import House, a_house, plan, tell


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        await house.provision(plan("writer"), plan("reader"), plan("scribe"))
        yield house


async def test_a_bell_brings_mail_to_a_live_instance(house: House) -> None:
    await house.coordinator()
    reader, writer = await house.instance("reader"), await house.instance("writer")
    await writer.store.post([tell("reader", "hello")])
    await writer.ring("reader")
    await eventually(lambda: reader.handled == ["hello"])


async def test_a_backlog_is_dispatched_in_order_before_live_traffic(house: House) -> None:
    coordinator = await house.coordinator()
    writer = await house.instance("writer")
    await writer.store.post([tell("reader", f"{n}") for n in range(150)])
    await writer.ring("reader")
    await eventually(lambda: coordinator.term.router._settled >= {"reader"})  # type: ignore[union-attr]
    view = await house.ledger().inbox("reader")
    assert view.waiting == 150 and view.in_flight == 0
    reader = await house.instance("reader", capacity=10)
    for n in range(150, 170):
        await writer.store.post([tell("reader", f"{n}")])
        await writer.ring("reader")
    await eventually(lambda: len(reader.handled) == 170)
    assert reader.handled == [str(n) for n in range(170)]
    assert reader.seen == reader.handled, "nothing was sent twice or out of order"
    assert reader.most_in_hand <= 10


async def test_mail_for_an_absent_agent_waits_and_is_delivered_when_it_comes(house: House) -> None:
    await house.coordinator()
    receipt = await house.command("tell", agent="reader", text="later")
    assert receipt["status"] == "accepted" and receipt["recipients"] == ["reader"]
    shown = await house.command("message_show", id=receipt["id"])
    assert [d["state"] for d in shown["deliveries"]] == ["accepted"]
    inbox = await house.command("inbox", agent="reader")
    assert inbox["waiting"] == 1 and inbox["first"][0]["text"] == "later"
    reader = await house.instance("reader")
    await eventually(lambda: reader.handled == ["later"])


async def test_a_killed_coordinator_loses_nothing_and_its_successor_goes_on_in_order(house: House) -> None:
    first = await house.coordinator()
    reader = await house.instance("reader", capacity=5, hands_on="hold")
    writer = await house.instance("writer")
    await writer.store.post([tell("reader", f"{n}") for n in range(20)])
    await writer.ring("reader")
    await eventually(lambda: len(reader.in_hand) == 5)
    await house.kill(first)
    second = await house.coordinator()
    await eventually(lambda: second.metrics.hellos >= 2)
    assert len(reader.in_hand) == 5, "what it has in hand is not sent again"
    await reader.handle_all()
    await eventually(lambda: len(reader.handled) == 20)
    assert reader.handled == [str(n) for n in range(20)] == reader.seen


async def test_what_nobody_has_in_hand_after_a_takeover_is_dispatched_again(house: House) -> None:
    first = await house.coordinator()
    lost = await house.instance("reader", hands_on="hold")
    await house.command("tell", agent="reader", text="once")
    await eventually(lambda: lost.in_hand)
    await house.kill(first)
    await lost.die()
    await house.coordinator()
    reader = await house.instance("reader")
    await eventually(lambda: reader.handled == ["once"])


async def test_an_orderly_stop_hands_over_at_once(house: House) -> None:
    first = await house.coordinator()
    second = await house.coordinator(wait=False)
    await eventually(lambda: second.metrics.terms == 0 and first.active)
    await house.stop(first)
    await eventually(lambda: second.active, seconds=0.5)


async def test_a_dispatch_lost_on_the_wire_is_sent_again(house: House) -> None:
    coordinator = await house.coordinator()
    reader = await house.instance("reader", hands_on="lose")
    await house.command("tell", agent="reader", text="again")
    await eventually(lambda: reader.lost == 1)
    reader.hands_on = "handle"
    await eventually(lambda: reader.handled == ["again"])
    assert coordinator.metrics.lost_dispatches == 1


async def test_a_dispatch_lost_among_others_is_sent_again_and_order_is_kept(house: House) -> None:
    await house.coordinator()
    reader, writer = await house.instance("reader", hands_on="lose"), await house.instance("writer")
    await writer.store.post([tell("reader", "1")])
    await writer.ring("reader")
    await eventually(lambda: reader.lost == 1)
    reader.hands_on = "handle"
    await writer.store.post([tell("reader", "2"), tell("reader", "3")])
    await writer.ring("reader")
    await eventually(lambda: len(reader.handled) == 3)
    assert reader.handled == ["1", "2", "3"]


async def test_a_lost_bell_is_made_up_for_by_the_sweep(house: House) -> None:
    await house.coordinator()
    reader, writer = await house.instance("reader"), await house.instance("writer")
    await writer.store.post([tell("reader", "no bell rang")])
    await eventually(lambda: reader.handled == ["no bell rang"])


async def test_what_was_claimed_and_nobody_knows_is_found_by_the_sweep(house: House) -> None:
    """The battery, seed 7: a claim was done and its answer lost, and its lane stood still for ever."""
    await house.coordinator()
    ledger = house.ledger()
    ledger.epoch = 1  # as the coordinator that made a claim and never heard of it
    reader, writer = await house.instance("reader"), await house.instance("writer")
    await writer.store.post([tell("reader", "first")])
    await writer.ring("reader")
    await eventually(lambda: reader.handled == ["first"])
    await writer.store.post([tell("reader", "stray")])
    assert [dispatch.content.text for dispatch in await ledger.claim({"reader": 1})] == ["stray"]
    await writer.store.post([tell("reader", "next")])
    await writer.ring("reader")
    await eventually(lambda: reader.handled == ["first", "stray", "next"])


async def test_lost_bells_of_ended_deliveries_do_not_fill_an_instance_for_ever(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader", capacity=2, hands_on="deaf")
    for n in range(8):
        await house.command("tell", agent="reader", text=f"{n}")
    await eventually(lambda: len(reader.handled) == 8, seconds=20)
    assert reader.handled == [str(n) for n in range(8)]


async def test_a_killed_instance_s_work_goes_to_another(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    dying = await house.instance("reader", hands_on="hold")
    await house.command("tell", agent="reader", text="survives")
    await eventually(lambda: dying.in_hand)
    heir = await house.instance("reader")
    await dying.die()
    await node.exited("reader", dying.name)
    await eventually(lambda: heir.handled == ["survives"])


async def test_three_missed_beats_are_a_death_too(house: House) -> None:
    await house.coordinator()
    silent = await house.instance("reader", hands_on="hold")
    await house.command("tell", agent="reader", text="survives")
    await eventually(lambda: silent.in_hand)
    silent.beating = False
    heir = await house.instance("reader")
    await eventually(lambda: heir.handled == ["survives"])
    silent.beating = True  # it was only paused: it is called, and welcome
    calls = silent.roll_calls
    await eventually(lambda: silent.roll_calls > calls)


async def test_a_message_that_kills_runs_alone_and_is_dead_after_three_crashes(house: House) -> None:
    await house.coordinator()
    node = await house.node("node-1")
    writer = await house.instance("writer", hands_on="hold")
    [killer] = await writer.store.post([tell("reader", "kill", room="a")])
    await writer.store.post([tell("reader", f"good {n}", room=f"b{n}") for n in range(5)])
    await writer.ring("reader")
    for crash in range(3):
        reader = await house.instance("reader", hands_on="hold")
        await eventually(lambda reader=reader: "kill" in reader.seen)  # type: ignore[misc]
        if crash > 0:
            assert list(reader.seen) == ["kill"], "a suspect runs alone"
        await reader.die()
        await node.exited("reader", reader.name)
    reader = await house.instance("reader")
    await eventually(lambda: len(reader.handled) == 5)
    assert sorted(reader.handled) == [f"good {n}" for n in range(5)]
    view = await house.ledger().message(killer.id)
    assert view is not None
    assert [(d.state, d.reason) for d in view.deliveries] == [("dead", "crashed its recipient 3 times")]
    await eventually(lambda: any("crashed" in text for text in writer.seen))  # its sender got a notice


async def test_a_goodbye_is_no_crash(house: House) -> None:
    await house.coordinator()
    receipt = await house.command("tell", agent="reader", text="kept")
    for _ in range(5):
        leaving = await house.instance("reader", hands_on="hold")
        await eventually(lambda leaving=leaving: leaving.in_hand)  # type: ignore[misc]
        await leaving.goodbye()
    last = await house.instance("reader", hands_on="hold")
    await eventually(lambda: last.in_hand)
    await last.handle_all()
    shown = await house.command("message_show", id=receipt["id"])
    assert shown["deliveries"][0]["state"] == "handled"


async def test_a_draining_instance_gets_nothing_new(house: House) -> None:
    await house.coordinator()
    old = await house.instance("reader")
    await house.command("tell", agent="reader", text="1")
    await eventually(lambda: old.handled == ["1"])
    old.status = "draining"
    await old.beat()
    new = await house.instance("reader")
    await house.command("tell", agent="reader", text="2")
    await eventually(lambda: new.handled == ["2"])
    assert old.handled == ["1"]


async def test_an_expired_message_is_ended_and_its_sender_told(house: House) -> None:
    await house.coordinator()
    writer = await house.instance("writer")
    [receipt] = await writer.store.post([tell("reader", "too late", expires_at=1)])
    await eventually(lambda: writer.seen)
    view = await house.ledger().message(receipt.id)
    assert view is not None and view.deliveries[0].state == "expired"


async def test_an_announcement_reports_k_of_n_and_who_is_missing(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader")
    writer = await house.instance("writer")
    report = await house.command("announce", text="all hands", wait=0.3)
    assert report["recipients"] == 3
    assert report["handled"] == 2
    assert report["pending"] == ["scribe"]
    assert reader.handled == writer.handled == ["all hands"]
    report = await house.command("announce", text="mine", wait=0.3, sender="writer")
    assert report["recipients"] == 2, "never to its sender"
    assert writer.handled == ["all hands"]


async def test_a_full_instance_is_not_given_more_than_it_can_hold(house: House) -> None:
    await house.coordinator()
    reader = await house.instance("reader", capacity=3, hands_on="hold")
    writer = await house.instance("writer")
    await writer.store.post([tell("reader", f"{n}", room=f"{n % 2}") for n in range(10)])
    await writer.ring("reader")
    await eventually(lambda: len(reader.in_hand) == 3)
    await house.command("stats")
    assert len(reader.in_hand) == 3
    await reader.handle_all()
    await eventually(lambda: len(reader.handled) == 10)


async def test_idle_costs_no_claims(house: House) -> None:
    coordinator = await house.coordinator()
    reader = await house.instance("reader")
    await house.command("tell", agent="reader", text="one")
    await eventually(lambda: reader.handled == ["one"])
    claims = 0
    ledger = coordinator._ledger
    original = ledger.claim

    async def counted(free: Mapping[str, int]) -> list[Dispatch]:
        nonlocal claims
        claims += 1
        return await original(free)

    ledger.claim = counted  # type: ignore[method-assign]
    sweeps = coordinator.metrics.sweeps
    await eventually(lambda: coordinator.metrics.sweeps >= sweeps + 2)
    assert claims == 0


async def test_a_result_reaches_all_replicas_because_nobody_knows_which_one_waits(house: House) -> None:
    await house.provision(
        plan("writer", replicas=2, permissions=AgentPermissions(control_children=True)),
        plan("reader", parent="writer"),
    )
    await house.coordinator()
    one, two = await house.instance("writer"), await house.instance("writer")
    reader = await house.instance("reader", hands_on="hold")
    task = NewTask(id=new_id(), child="reader", goal="read")
    await one.store.delegate([task])
    await one.ring("reader")
    await eventually(lambda: reader.in_hand)
    [(delivery, envelope)] = reader.in_hand.items()
    outcome = TaskOutcome(task=task.id, state="completed", result=Content(text="read"))
    await reader.store.commit(Turn(delivery=delivery, attempt=envelope.attempt, outcome=outcome))
    await reader.ring("writer")
    await eventually(lambda: one.seen == ["read"] and two.seen == ["read"])
    assert sorted(one.handled + two.handled) == ["read"]


async def test_a_long_backlog_is_claimed_in_batches(house: House) -> None:
    coordinator = await house.coordinator()
    writer = await house.instance("writer")
    await writer.store.post([tell("reader", f"{n}") for n in range(640)])
    ledger, claims = coordinator._ledger, 0
    original = ledger.claim

    async def counted(free: Mapping[str, int]) -> list[Dispatch]:
        nonlocal claims
        claims += 1
        return await original(free)

    ledger.claim = counted  # type: ignore[method-assign]
    reader = await house.instance("reader")
    await eventually(lambda: len(reader.handled) == 640)
    assert reader.handled == [str(n) for n in range(640)]
    assert claims <= 640 / 16 + 20


async def test_a_room_with_work_in_flight_sticks_to_its_instance_and_others_do_not(house: House) -> None:
    await house.provision(plan("writer"), plan("reader", replicas=2, balance="least-loaded"))
    await house.coordinator()
    one = await house.instance("reader", hands_on="hold")
    two = await house.instance("reader", hands_on="hold")
    for text in ("r1", "r2", "r3", "q1"):
        await house.command("tell", agent="reader", text=text, room=text[0])
    await eventually(lambda: len(one.seen) + len(two.seen) == 4)
    assert sorted([one.seen, two.seen]) == [["q1"], ["r1", "r2", "r3"]]


async def test_a_suspect_waits_for_an_empty_instance_and_the_younger_wait_behind_it(house: House) -> None:
    await house.provision(plan("writer"), plan("reader", replicas=2, balance="least-loaded"))
    coordinator = await house.coordinator()
    node = await house.node("node-1")
    dying = await house.instance("reader", hands_on="hold")
    await house.command("tell", agent="reader", text="suspect", room="s")
    await eventually(lambda: dying.seen == ["suspect"])
    other = await house.instance("reader", hands_on="hold")
    await house.command("tell", agent="reader", text="busy", room="b")
    await eventually(lambda: other.seen == ["busy"])
    await dying.die()
    await node.exited("reader", dying.name)
    await eventually(lambda: coordinator.metrics.claimed == 3)  # the suspect again
    await house.command("tell", agent="reader", text="younger", room="y")
    await eventually(lambda: coordinator.metrics.claimed == 4)
    await house.command("ping")
    assert other.seen == ["busy"]
    [busy] = other.in_hand.values()
    await other.handle(busy)
    await eventually(lambda: other.seen == ["busy", "suspect"])
    await house.command("ping")
    assert other.seen == ["busy", "suspect"], "nobody runs beside it"
    await other.handle_all()
    await eventually(lambda: other.handled == ["busy", "suspect", "younger"])
