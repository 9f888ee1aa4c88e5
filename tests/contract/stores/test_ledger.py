"""What the coordinator's ledger promises, on every implementation."""

from __future__ import annotations

import pytest

from swarm.errors import StoreError, UnknownAgent
from swarm.ids import new_id, string_to_uuid
from swarm.ledger import LeaseLost, Ledger
from swarm.records import AgentPermissions, AgentPlan, Content, TaskOutcome, Turn
from tests.contract.store_fixtures import CONTROL, FAMILY, World, message, now, plan, task

# ── the way of a message ──────────────────────────────────────────────────────────────────────────


async def test_claims_come_in_order_and_within_the_free_places(world: World) -> None:
    boss, stranger = world.store("boss"), world.store("stranger")
    for number in range(3):
        await boss.post([message("reader", f"b{number}")])
        await stranger.post([message("reader", f"s{number}"), message("writer", f"w{number}")])
    got = await world.ledger.claim({"reader": 4, "writer": 1, "stranger": 5, "nobody": 3, "boss": 0})
    assert [d.content.text for d in got if d.recipient == "reader"] == ["b0", "s0", "b1", "s1"]
    assert [d.content.text for d in got if d.recipient == "writer"] == ["w0"]
    assert [d.delivery for d in got] == sorted(d.delivery for d in got)
    assert await world.ledger.waiting() == {"reader": 2, "writer": 2}
    assert await world.claim_texts("reader") == ["b2", "s2"]
    assert await world.claim("reader") == []
    assert await world.ledger.claim({}) == []


async def test_messages_of_one_call_keep_their_order(world: World) -> None:
    await world.store("boss").post([message("reader", str(n)) for n in range(50)])
    assert await world.claim_texts("reader") == [str(n) for n in range(50)]


async def test_what_was_given_back_comes_first_again(world: World) -> None:
    await world.store("boss").post([message("reader", "1"), message("reader", "2")])
    one, two = await world.claim("reader")
    await world.store("boss").post([message("reader", "3")])
    assert await world.ledger.release([two.delivery, one.delivery, 10**12], crashed=False) == []
    again = await world.claim("reader")
    assert [(d.content.text, d.attempt, d.crashes) for d in again] == [("1", 2, 0), ("2", 2, 0), ("3", 1, 0)]


async def test_what_is_not_in_hand_is_not_given_back(world: World) -> None:
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery))
    assert await world.ledger.release([got.delivery], crashed=True) == []
    assert (await world.ledger.stats()) == {"deliveries.handled": 1}


async def test_a_message_that_crashes_its_recipient_thrice_dies_and_its_sender_is_told(world: World) -> None:
    sent = message("reader")
    await world.store("boss").post([sent, message("reader", "next")])
    for crash in range(3):
        got, other = await world.claim("reader")
        await world.ledger.release([other.delivery], crashed=False)
        ended = await world.ledger.release([got.delivery], crashed=True)
        assert bool(ended) == (crash == 2)
    (dead,) = ended
    assert (dead.id, dead.sender, dead.recipient, dead.state, dead.reason) == (
        sent.id,
        "boss",
        "reader",
        "dead",
        "crashed its recipient 3 times",
    )
    (notice,) = await world.claim("boss")
    assert (notice.sender, notice.kind) == ("coordinator", "notice")
    assert notice.content.data == {
        "message": sent.id,
        "recipient": "reader",
        "state": "dead",
        "reason": "crashed its recipient 3 times",
    }
    (following,) = await world.claim("reader")
    assert (await world.store("reader").commit(Turn(delivery=following.delivery))).status == "committed"


async def test_an_instance_that_comes_back_keeps_what_it_has_in_hand(world: World) -> None:
    await world.store("boss").post([message("reader", str(n)) for n in range(4)])
    await world.store("boss").post([message("writer")])
    got = await world.claim("reader", 3)
    await world.claim("writer")
    assert await world.ledger.dispatched() == {"reader": 3, "writer": 1}
    assert await world.ledger.release_all_but("reader", [got[1].delivery]) == 2
    assert await world.ledger.dispatched() == {"reader": 1, "writer": 1}
    assert await world.claim_texts("reader") == ["0", "2", "3"]
    assert await world.ledger.waiting() == {}
    with pytest.raises(UnknownAgent):
        await world.ledger.release_all_but("nobody", [])


async def test_what_is_late_expires_and_its_sender_is_told(world: World) -> None:
    late, in_time, announced = (
        message("reader", expires_at=now() - 1),
        message("reader", expires_at=now() + 60_000),
        message("all", kind="announce", expires_at=now() - 1),
    )
    await world.store("boss").post([late, in_time])
    await world.store("writer").post([announced])
    assert [d.id for d in await world.claim("reader")] == [in_time.id]
    ended = await world.ledger.end_overdue()
    assert [(e.id, e.recipient, e.state) for e in ended if e.id == late.id] == [
        (late.id, "reader", "expired")
    ]
    assert sorted(e.recipient for e in ended if e.id == announced.id) == ["boss", "reader", "stranger"]
    assert await world.ledger.end_overdue() == []
    (notice,) = await world.claim("boss")
    assert notice.content.data["state"] == "expired" and notice.content.data["message"] == late.id
    assert len(await world.claim("writer")) == 3
    view = await world.ledger.message(late.id)
    assert view is not None and (view.deliveries[0].state, view.deliveries[0].reason) == (
        "expired",
        "its time passed",
    )


async def test_a_notice_never_breeds_another(world: World) -> None:
    await world.store("boss").post([message("reader", expires_at=now() - 1)])
    await world.ledger.end_overdue()
    for _ in range(3):
        (notice,) = await world.claim("boss")
        ended = await world.ledger.release([notice.delivery], crashed=True)
    assert [e.state for e in ended] == ["dead"]
    assert await world.ledger.waiting() == {}


async def test_the_operator_sends_and_is_sent_nothing(world: World) -> None:
    sent = message("all", kind="announce")
    (receipt,) = await world.ledger.accept("operator", [sent])
    assert receipt.recipients == ("boss", "reader", "stranger", "writer")
    assert await world.ledger.accept("operator", [sent]) == [receipt]
    await world.ledger.accept("operator", [message("reader", expires_at=now() - 1)])
    await world.ledger.end_overdue()
    assert set(await world.ledger.waiting()) == {"boss", "reader", "stranger", "writer"}
    with pytest.raises(UnknownAgent):
        await world.ledger.accept("operator", [message("raeder")])
    with pytest.raises(UnknownAgent):
        await world.ledger.accept("nobody", [message("reader")])


# ── the lease ─────────────────────────────────────────────────────────────────────────────────────


async def taken_after_it_ran_out(ledger: Ledger, holder: str) -> int:
    while (epoch := await ledger.take_lease(holder, 600.0)) is None:
        pass
    return epoch


async def test_one_coordinator_holds_the_lease(world: World) -> None:
    other = world.another_ledger()
    assert await other.take_lease("other", 600.0) is None
    assert other.epoch is None
    assert await world.ledger.take_lease("test", 600.0) == 1, "renewing keeps the epoch"
    await world.ledger.release_lease("test")
    assert world.ledger.epoch is None
    assert await other.take_lease("other", 600.0) == 2
    await world.ledger.release_lease("test")
    assert await world.ledger.take_lease("test", 600.0) is None, "nobody gives back what another holds"


async def writes(ledger: Ledger, delivery: int) -> list[tuple[str, object]]:
    return [
        ("set_desired", lambda: ledger.set_desired("reader", "stopped")),
        ("accept", lambda: ledger.accept("operator", [message("reader", "stale")])),
        ("claim", lambda: ledger.claim({"reader": 5})),
        ("release", lambda: ledger.release([delivery], crashed=True)),
        ("release_all_but", lambda: ledger.release_all_but("reader", [])),
        ("end_overdue", lambda: ledger.end_overdue()),
        ("delegate", lambda: ledger.delegate("operator", [task("reader")])),
    ]


async def test_a_deposed_coordinator_writes_nothing(world: World) -> None:
    """Paused past its lease and woken: every write of it fails, and leaves no trace."""
    await world.store("boss").post(
        [message("reader"), message("reader"), message("reader", expires_at=now() - 1)]
    )
    (got,) = await world.claim("reader", 1)
    assert await world.ledger.take_lease("test", 0.05) == 1
    successor = world.another_ledger()
    assert await taken_after_it_ran_out(successor, "successor") == 2
    before = (await successor.stats(), await successor.agents(), await successor.tasks())
    for name, write in await writes(world.ledger, got.delivery):
        with pytest.raises(LeaseLost):
            await write()  # type: ignore[operator]
        assert (await successor.stats(), await successor.agents(), await successor.tasks()) == before, name


async def test_a_lease_that_ran_out_writes_nothing_though_nobody_took_it(world: World) -> None:
    assert await world.ledger.take_lease("test", 0.0) == 1
    with pytest.raises(LeaseLost):
        await world.ledger.claim({"reader": 1})
    assert await world.ledger.take_lease("test", 600.0) == 2, "what began under the old epoch is void"


async def test_without_a_lease_nothing_is_written(world: World) -> None:
    reading = world.another_ledger()
    for _, write in await writes(reading, 1):
        with pytest.raises(LeaseLost):
            await write()  # type: ignore[operator]
    assert await reading.waiting() == {}
    await reading.provision(FAMILY, {})


# ── agents ────────────────────────────────────────────────────────────────────────────────────────


async def test_provisioning_again_changes_nothing(world: World) -> None:
    before = await world.ledger.agents()
    await world.provision(*FAMILY)
    assert await world.ledger.agents() == before


async def test_a_change_of_plan_is_applied(world: World) -> None:
    changed = plan(
        "writer", parent="stranger", version="2", roles=("write",), replicas=3, balance="round-robin"
    )
    await world.provision(*(p for p in FAMILY if p.name != "writer"), changed)
    (writer,) = [a for a in await world.ledger.agents() if a.name == "writer"]
    assert (writer.parent, writer.version, writer.roles, writer.replicas, writer.balance) == (
        "stranger",
        "2",
        ("write",),
        3,
        "round-robin",
    )
    assert writer.permissions == AgentPermissions()


async def test_who_is_no_longer_planned_is_stopped_and_its_mail_waits(world: World) -> None:
    await world.store("boss").post([message("stranger", "waits")])
    await world.provision(*(p for p in FAMILY if p.name != "stranger"))
    assert {a.name: a.desired for a in await world.ledger.agents()}["stranger"] == "stopped"
    (announced,) = await world.store("boss").post([message("all")])
    assert "stranger" not in announced.recipients
    assert (await world.store("boss").post([message("stranger", "still")]))[0].recipients == ("stranger",)
    await world.provision(*FAMILY)
    assert {a.name: a.desired for a in await world.ledger.agents()}["stranger"] == "running"
    assert await world.claim_texts("stranger") == ["waits", "still"]


async def test_a_stop_by_the_operator_outlives_provisioning(world: World) -> None:
    await world.ledger.set_desired("reader", "stopped")
    await world.provision(*FAMILY)
    assert {a.name: a.desired for a in await world.ledger.agents()}["reader"] == "stopped"
    for unknown in ("nobody", "operator"):
        with pytest.raises(UnknownAgent):
            await world.ledger.set_desired(unknown, "running")


@pytest.mark.parametrize(
    ("plans", "said"),
    [
        ([plan("a"), plan("a", id=string_to_uuid("b"))], "Two agents are called"),
        ([plan("a"), plan("b", id=string_to_uuid("a"))], "is taken by the agent a"),
        ([plan("reader", id=new_id())], "known under another id"),
        ([plan("novel", id=string_to_uuid("reader"))], "is taken by the agent reader"),
        ([plan("operator")], "a name that the swarm keeps"),
        ([plan("all")], "a name that the swarm keeps"),
        ([plan("a b")], "no name for an agent"),
        ([plan("a", id="1")], "not an id"),
        ([plan("boss"), plan("a", parent="bos")], "did you mean boss"),
        ([plan("a", parent="b"), plan("b", parent="a")], "its own ancestor"),
        ([plan("a", parent="a")], "its own ancestor"),
        ([plan("a"), plan("b", parent="a", permissions=CONTROL)], "never exceed its parent's"),
        ([plan("a", character={"bio": "\0"})], "NUL"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_whole(
    world: World, plans: list[AgentPlan], said: str
) -> None:
    before = await world.ledger.agents()
    with pytest.raises(StoreError, match=said):
        await world.provision(*plans)
    assert await world.ledger.agents() == before


# ── views ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_message_shows_each_of_its_deliveries(world: World) -> None:
    sent = message("all", "news", kind="announce")
    await world.store("boss").post([sent])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery))
    view = await world.ledger.message(sent.id)
    assert view is not None
    assert (view.id, view.sender, view.to, view.room, view.kind, view.content) == (
        sent.id,
        "boss",
        "all",
        "lobby",
        "announce",
        Content("news"),
    )
    assert [(d.to, d.state, d.attempts) for d in view.deliveries] == [
        ("reader", "handled", 1),
        ("stranger", "accepted", 0),
        ("writer", "accepted", 0),
    ]
    assert await world.ledger.message(new_id()) is None


async def test_an_inbox_shows_what_waits(world: World) -> None:
    empty = await world.ledger.inbox("reader")
    assert (empty.waiting, empty.in_flight, empty.oldest_at, empty.first) == (0, 0, None, ())
    await world.store("boss").post([message("reader", str(n)) for n in range(5)])
    (got,) = await world.claim("reader", 1)
    view = await world.ledger.inbox("reader", limit=2)
    assert (view.agent, view.waiting, view.in_flight) == ("reader", 4, 1)
    assert [m.content.text for m in view.first] == ["1", "2"]
    assert [d.to for d in view.first[0].deliveries] == ["reader"]
    assert view.oldest_at == view.first[0].accepted_at >= got.accepted_at
    with pytest.raises(UnknownAgent):
        await world.ledger.inbox("raeder")


async def test_everything_accepted_is_accounted_for(world: World) -> None:
    """I6: accepted = handled + dead + expired + pending."""
    await world.store("boss").post([message("reader") for _ in range(3)])
    await world.store("boss").post([message("reader", room="x", expires_at=now() - 1)])
    await world.store("boss").commit(Turn(delivery=None, outgoing=(message("nobody"),)))
    await world.store("boss").delegate([task("writer")])
    (got,) = await world.claim("reader", 1)
    await world.store("reader").commit(Turn(delivery=got.delivery))
    await world.claim("reader", 1)
    await world.ledger.end_overdue()
    assert await world.ledger.stats() == {
        "deliveries.handled": 1,
        "deliveries.dispatched": 1,
        "deliveries.accepted": 4,  # one to the reader, a task, two notices
        "deliveries.expired": 1,
        "deliveries.dead": 1,
        "tasks.submitted": 1,
    }


async def test_results_and_notices_need_no_place_because_turns_that_hold_all_places_may_wait_for_them(
    world: World,
) -> None:
    boss = world.store("boss")
    await boss.delegate([task("reader"), task("reader")])
    for got in await world.claim("reader"):
        await world.store("reader").commit(
            Turn(delivery=got.delivery, attempt=1, outcome=TaskOutcome(got.id, "completed", Content("done")))
        )
    await world.store("stranger").post([message("boss", "a tell waits for a place")])
    got = await world.ledger.claim({"boss": 0})
    assert [one.kind for one in got] == ["result", "result"]
    assert (await world.ledger.waiting())["boss"] == 1


async def test_a_message_that_its_recipient_gives_up_is_dead_and_its_sender_is_told_once(
    world: World,
) -> None:
    sent, given = message("reader"), task("reader")
    await world.store("boss").post([sent])
    await world.store("boss").delegate([given])
    for got in await world.claim("reader"):
        turn = Turn(delivery=got.delivery, attempt=1, dead="it cannot be read")
        assert (await world.store("reader").commit(turn)).status == "committed"
        assert (await world.store("reader").commit(turn)).status == "stale"
    view = await world.ledger.message(sent.id)
    assert view is not None
    assert [(one.state, one.reason) for one in view.deliveries] == [("dead", "it cannot be read")]
    told = await world.claim("boss")
    assert sorted(one.kind for one in told) == ["notice", "result"]
    (ended,) = await world.store("boss").get_tasks([given.id])
    assert (ended.state, ended.error) == ("failed", "it cannot be read")
