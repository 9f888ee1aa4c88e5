"""What an agent's store promises, on every implementation: turns and messages."""

from __future__ import annotations

import pytest

from bus.errors import Refused
from swarm.errors import StoreError, UnknownAgent
from swarm.ids import new_id, string_to_uuid
from swarm.records import Committed, Content, Outgoing, Turn
from tests.contract.store_fixtures import FAMILY, ON_EVERY_STORE, World, memory, message, now, plan


@ON_EVERY_STORE
async def test_a_store_answers_and_closes_twice(world: World) -> None:
    store = world.store("reader")
    await store.init()
    await store.init()
    await store.ping()
    await store.close()
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.agents()


async def test_a_closed_store_wipes_nobodys_data(world: World) -> None:
    await world.store("reader").create_memory(memory("kept"))
    await world.store("reader").close()
    await world.store("boss").post([message("reader")])
    assert await world.another_store("reader").count_memories() == 1
    assert await world.ledger.waiting() == {"reader": 1}


# ── post ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("reader", ("reader",)),
        (string_to_uuid("reader"), ("reader",)),
        (string_to_uuid("reader").upper(), ("reader",)),
        ("role:read", ("reader",)),
        ("all", ("reader", "stranger", "writer")),
        ("children", ("reader", "writer")),
    ],
)
async def test_an_address_names_its_recipients(world: World, address: str, expected: tuple[str, ...]) -> None:
    (receipt,) = await world.store("boss").post([message(address)])
    assert receipt.recipients == expected
    assert await world.store("boss").resolve(address) == expected
    assert await world.ledger.waiting() == dict.fromkeys(expected, 1)


async def test_parent_is_the_parent(world: World) -> None:
    (receipt,) = await world.store("reader").post([message("parent")])
    assert receipt.recipients == ("boss",)
    assert await world.store("reader").resolve("parent") == ("boss",)


async def test_groups_may_be_empty(world: World) -> None:
    sent = message("children")
    (receipt,) = await world.store("stranger").post([sent])
    assert receipt.recipients == ()
    assert await world.store("stranger").resolve("children") == ()
    view = await world.ledger.message(sent.id)
    assert view is not None and view.deliveries == ()


async def test_a_role_is_one_of_those_who_offer_it_and_the_same_for_a_retry(world: World) -> None:
    chosen = set()
    for _ in range(40):
        sent = message("role:summarise")
        (first,) = await world.store("boss").post([sent])
        (again,) = await world.store("boss").post([sent])
        assert first == again and len(first.recipients) == 1
        chosen |= set(first.recipients)
    assert chosen == {"reader", "writer"}
    assert await world.store("boss").resolve("role:summarise") == ("reader", "writer")


async def test_a_role_prefers_who_runs(world: World) -> None:
    await world.ledger.set_desired("reader", "stopped")
    receipts = await world.store("boss").post([message("role:summarise") for _ in range(20)])
    assert {r.recipients for r in receipts} == {("writer",)}


async def test_the_asker_is_not_of_its_role(world: World) -> None:
    (receipt,) = await world.store("reader").post([message("role:summarise")])
    assert receipt.recipients == ("writer",)
    with pytest.raises(UnknownAgent):
        await world.store("reader").post([message("role:read")])


@ON_EVERY_STORE
@pytest.mark.parametrize(
    "address", ["raeder", "role:nothing", "parent", "operator", "coordinator", string_to_uuid("nobody")]
)
async def test_an_address_of_nobody_is_an_error(world: World, address: str) -> None:
    with pytest.raises(UnknownAgent):
        await world.store("stranger").post([message(address)])
    with pytest.raises(UnknownAgent):
        await world.store("stranger").resolve(address)


async def test_a_typo_is_told_near_names(world: World) -> None:
    with pytest.raises(UnknownAgent, match="did you mean reader"):
        await world.store("boss").post([message("raeder")])
    with pytest.raises(UnknownAgent, match="did you mean reader"):
        await world.store("boss").resolve("raeder")


async def test_messages_are_accepted_all_or_none(world: World) -> None:
    good, bad = message("reader"), message("raeder")
    with pytest.raises(UnknownAgent):
        await world.store("boss").post([good, bad])
    assert await world.ledger.waiting() == {}
    assert await world.ledger.message(good.id) is None


async def test_a_retry_is_no_second_message(world: World) -> None:
    sent = [message("reader"), message("all")]
    first = await world.store("boss").post(sent)
    assert await world.store("boss").post(sent) == first
    assert await world.ledger.waiting() == {"reader": 2, "writer": 1, "stranger": 1}


async def test_a_retry_beside_a_new_message_is_answered_as_before(world: World) -> None:
    old, new = message("reader"), message("writer")
    await world.store("boss").post([old])
    receipts = await world.store("boss").post([new, old])
    assert [r.recipients for r in receipts] == [("writer",), ("reader",)]


async def test_recipients_are_fixed_when_accepted(world: World) -> None:
    sent = message("all")
    (first,) = await world.store("boss").post([sent])
    await world.provision(*FAMILY, plan("newcomer"))
    assert await world.store("boss").post([sent]) == [first]
    assert "newcomer" not in await world.ledger.waiting()
    (later,) = await world.store("boss").post([message("all")])
    assert "newcomer" in later.recipients


@ON_EVERY_STORE
async def test_an_agent_does_not_write_to_itself(world: World) -> None:
    for own in ("reader", string_to_uuid("reader")):
        with pytest.raises(Refused, match="itself") as caught:
            await world.store("reader").post([message(own)])
        assert caught.value.reason == "own_message"


async def test_an_id_of_another_sender_is_not_taken_away(world: World) -> None:
    sent = message("reader", "mine")
    await world.store("boss").post([sent])
    await world.store("stranger").post(
        [Outgoing(id=sent.id, to="reader", room="lobby", content=Content("theirs"))]
    )
    assert [(d.sender, d.content.text) for d in await world.claim("reader")] == [
        ("boss", "mine"),
        ("stranger", "theirs"),
    ]


@ON_EVERY_STORE
@pytest.mark.parametrize("kind", ["task", "result", "notice"])
async def test_nobody_sends_the_ledgers_own_kinds(world: World, kind: str) -> None:
    with pytest.raises(StoreError, match="by hand"):
        await world.store("boss").post([message("reader", kind=kind)])


@ON_EVERY_STORE
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (message("reader", "a\0b"), "NUL"),
        (message("reader", room="a\0b"), "NUL"),
        (message("rea\0der"), "NUL"),
        (Outgoing(id="m1", to="reader", room="r", content=Content("x")), "not an id"),
        (message("reader", room=""), "room"),
        (message("reader", room="r" * 201), "room"),
        (message("reader", "\ud800"), "JSON"),
    ],
)
async def test_what_cannot_be_stored_is_refused_with_a_sentence(
    world: World, bad: Outgoing, said: str
) -> None:
    with pytest.raises(StoreError, match=said):
        await world.store("boss").post([bad])
    with pytest.raises(StoreError, match=said):
        await world.store("boss").commit(Turn(delivery=None, memories=(memory("x"),), outgoing=(bad,)))
    assert await world.waiting() == {}
    assert await world.store("boss").count_memories() == 0


async def test_text_that_only_looks_like_nul_is_kept(world: World) -> None:
    text = "a \\u0000 b \\\\u0000 \\ \u2028 \N{PILE OF POO}"
    await world.store("boss").post([message("reader", text)])
    assert await world.claim_texts("reader") == [text]


async def test_all_that_a_message_says_arrives(world: World) -> None:
    sent = Outgoing(
        id=new_id(),
        to="reader",
        room="lobby",
        content=Content("text", {"a": [1, 2.5, None, {"b": "é"}], "big": 2**70}, {"from_agent": "boss"}),
        kind="announce",
        in_reply_to="anything-1",
        expires_at=now() + 60_000,
        hops=3,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    await world.store("boss").post([sent])
    (got,) = await world.claim("reader")
    assert (got.id, got.sender, got.recipient, got.room, got.kind) == (
        sent.id,
        "boss",
        "reader",
        "lobby",
        "announce",
    )
    assert got.content == sent.content
    assert (got.in_reply_to, got.expires_at, got.hops, got.traceparent) == (
        sent.in_reply_to,
        sent.expires_at,
        3,
        sent.traceparent,
    )
    assert (got.attempt, got.crashes) == (1, 0)
    assert abs(got.accepted_at - now()) < 60_000


# ── commit ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_turn_is_committed_once(world: World) -> None:
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    turn = Turn(
        delivery=got.delivery,
        attempt=1,
        memories=(memory("m"),),
        outgoing=(message("boss"), message("writer")),
    )
    first = await world.store("reader").commit(turn)
    assert first == Committed("committed", ("boss", "writer"))
    assert await world.another_store("reader").commit(turn) == Committed("duplicate")
    other = Turn(delivery=got.delivery, attempt=1, memories=(memory("n"),), outgoing=(message("boss"),))
    assert await world.store("reader").commit(other) == Committed("duplicate")
    assert await world.store("reader").count_memories() == 1
    assert await world.ledger.waiting() == {"boss": 1, "writer": 1}
    view = await world.ledger.message(got.id)
    assert view is not None and view.deliveries[0].state == "handled" and view.deliveries[0].handled_at


async def test_a_turn_waits_for_the_one_before_it(world: World) -> None:
    await world.store("boss").post([message("reader", "1"), message("reader", "2"), message("reader", "3")])
    one, two, three = await world.claim("reader")
    reader = world.store("reader")
    early = Turn(delivery=three.delivery, memories=(memory("early"),))
    assert await reader.commit(early) == Committed("out_of_order")
    assert await reader.count_memories() == 0
    for delivery in (one, two):
        assert (await reader.commit(Turn(delivery=delivery.delivery))).status == "committed"
    assert (await reader.commit(early)).status == "committed"


async def test_other_senders_rooms_and_recipients_do_not_wait(world: World) -> None:
    await world.store("boss").post([message("reader"), message("writer")])
    await world.store("boss").post([message("reader", room="elsewhere")])
    await world.store("stranger").post([message("reader")])
    _, elsewhere, other_sender = await world.claim("reader")
    (writers,) = await world.claim("writer")
    for name, got in (("reader", other_sender), ("reader", elsewhere), ("writer", writers)):
        assert (await world.store(name).commit(Turn(delivery=got.delivery))).status == "committed"


async def test_a_released_delivery_may_still_be_committed_by_who_had_it(world: World) -> None:
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    await world.ledger.release([got.delivery], crashed=False)
    assert (await world.store("reader").commit(Turn(delivery=got.delivery, attempt=1))).status == "committed"
    assert await world.claim("reader") == []


async def test_a_turn_on_an_expired_delivery_writes_nothing(world: World) -> None:
    await world.store("boss").post([message("reader", expires_at=now() - 1)])
    (ended,) = await world.ledger.end_overdue()
    turn = Turn(delivery=ended.delivery, memories=(memory("late"),))
    assert await world.store("reader").commit(turn) == Committed("stale")
    assert await world.store("reader").count_memories() == 0


async def test_anothers_delivery_is_refused(world: World) -> None:
    await world.store("boss").post([message("reader")])
    (got,) = await world.claim("reader")
    for turn in (Turn(delivery=got.delivery), Turn(delivery=10**12)):
        with pytest.raises(StoreError, match="not yours"):
            await world.store("writer").commit(turn)
    assert (await world.ledger.stats())["deliveries.dispatched"] == 1


async def test_an_ask_leaves_memories_and_messages(world: World) -> None:
    turn = Turn(delivery=None, memories=(memory("m"),), outgoing=(message("reader"),))
    for _ in range(2):
        assert await world.store("boss").commit(turn) == Committed("committed", ("reader",))
    assert await world.store("boss").count_memories() == 1
    assert await world.ledger.waiting() == {"reader": 1}


async def test_an_outgoing_message_to_nobody_is_kept_as_dead_and_its_sender_told(world: World) -> None:
    lost, own, good = message("nobody-here", hops=4), message("boss"), message("reader")
    done = await world.store("boss").commit(Turn(delivery=None, outgoing=(lost, own, good)))
    assert done == Committed("committed", ("reader",), (lost.id, own.id))
    view = await world.ledger.message(lost.id)
    assert view is not None
    (delivery,) = view.deliveries
    assert (delivery.to, delivery.state, delivery.reason) == (
        "nobody-here",
        "dead",
        "there is no agent 'nobody-here'",
    )
    notice, own_notice = await world.claim("boss")
    assert (notice.sender, notice.kind, notice.room, notice.in_reply_to, notice.hops) == (
        "coordinator",
        "notice",
        "lobby",
        lost.id,
        5,
    )
    assert notice.content.data == {
        "message": lost.id,
        "recipient": "nobody-here",
        "state": "dead",
        "reason": "there is no agent 'nobody-here'",
    }
    assert own_notice.content.data["reason"] == "an agent does not write to itself"
    assert (await world.ledger.stats()) == {
        "deliveries.dead": 2,
        "deliveries.dispatched": 2,
        "deliveries.accepted": 1,
    }


async def test_a_stranger_stays_out_of_an_empty_database_of_names(world: World) -> None:
    with pytest.raises(StoreError):
        await world.another_store("who-is-that").init()


@ON_EVERY_STORE
async def test_hops_that_are_no_number_of_hops_are_refused(world: World) -> None:
    for hops in (256, -1):
        with pytest.raises(Refused, match="no number of hops"):
            await world.store("boss").post([message("reader", hops=hops)])
        with pytest.raises(Refused, match="no number of hops"):
            await world.store("boss").commit(Turn(delivery=None, outgoing=(message("reader", hops=hops),)))
    assert await world.waiting() == {}
