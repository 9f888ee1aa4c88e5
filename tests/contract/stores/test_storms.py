"""Loops and storms end where messages are accepted, on every ledger: hops, a conversation's budget, the pace of two
agents and of one. F6 and I16 (no message exceeds its hops, no conversation its budget)."""

from __future__ import annotations

import pytest

from bus.errors import Refused
from swarm.ids import new_id
from swarm.limits import AgentLimits
from swarm.records import Dispatch, Outgoing, Turn
from tests.contract.store_fixtures import World, message, plan


async def answer(world: World, who: str, got: Dispatch, *outgoing: Outgoing) -> tuple[str, ...]:
    """`who` handles what it got and says this because of it; the ids of what became a dead letter."""
    committed = await world.store(who).commit(
        Turn(delivery=got.delivery, attempt=got.attempt, outgoing=outgoing)
    )
    assert committed.status == "committed"
    return committed.dead


async def test_i16_two_agents_that_answer_each_other_are_stopped_after_32_hops_and_named(
    world: World,
) -> None:
    """In a fresh room each time, and whatever they say about hops and origins."""
    await world.store("reader").post([message("writer", room="room 0")])
    pair = ("writer", "reader")
    dead: tuple[str, ...] = ()
    for hop in range(40):
        who, other = pair[hop % 2], pair[(hop + 1) % 2]
        [got] = await world.claim(who)
        assert got.hops == hop <= 32
        dead = await answer(world, who, got, message(other, room=f"room {hop + 1}", hops=0, origin=new_id()))
        if dead:
            break
    assert (hop, who) == (32, "writer")
    [storm] = await world.ledger.storms(0)
    assert (storm.kind, storm.sender, storm.recipient, storm.refused) == ("hops", "writer", "reader", 1)
    assert "writer → reader → writer → reader" in storm.text
    [notice] = await world.claim("writer")
    assert notice.kind == "notice" and "32 agents" in notice.content.text, notice.content.text
    [lost] = (await world.ledger.message(dead[0])).deliveries  # type: ignore[union-attr]
    assert (lost.to, lost.state) == ("reader", "dead") and lost.reason == f"hops: {storm.text}"
    assert (await world.ledger.stats())["refused.hops"] == 1
    assert await world.claim("reader") == []


async def test_what_is_posted_because_of_a_message_has_come_a_hop_further(world: World) -> None:
    [first] = await world.store("reader").post([message("writer", hops=31)])
    await world.store("writer").post([message("reader", hops=0, in_reply_to=first.id)])
    [second] = await world.claim("reader")
    assert (second.hops, second.origin) == (32, first.id)
    with pytest.raises(Refused, match="reader → writer → reader") as caught:
        await world.store("reader").post([message("writer", in_reply_to=second.id)])
    assert caught.value.reason == "hops"
    # Nobody is made guilty by a message that it did not get.
    await world.store("boss").post([message("writer", in_reply_to=second.id)])
    assert sorted(got.hops for got in await world.claim("writer")) == [0, 31]


async def test_i16_a_conversation_has_a_budget_over_all_agents_and_rooms(world: World) -> None:
    await world.provision(
        plan("boss", limits=AgentLimits(conversation_messages=5)),
        plan("reader", parent="boss"),  # made without limits of its own: its parent's
        plan("writer", parent="boss", limits=AgentLimits(conversation_messages=0)),
        plan("stranger"),
    )
    [root] = await world.store("stranger").post([message("boss")])
    [got] = await world.claim("boss")
    dead = await answer(world, "boss", got, *(message("reader", room=f"r{n}") for n in range(4)))
    assert dead == ()
    hands = await world.claim("reader")
    assert {one.origin for one in hands} == {root.id}
    assert await answer(world, "reader", hands[0], message("stranger")) == ()
    sixth = message("boss")
    assert await answer(world, "reader", hands[1], sixth) == (sixth.id,)
    [storm] = await world.ledger.storms(0)
    assert storm.kind == "conversation" and "over 5 messages" in storm.text
    assert "stranger → boss → reader → boss" in storm.text
    # Another conversation is not concerned.
    await world.store("reader").post([message("boss")])


async def test_f6_two_agents_that_write_to_each_other_too_fast_are_refused_and_named(world: World) -> None:
    few = AgentLimits(pair_per_minute=10)
    await world.provision(plan("boss"), plan("reader", limits=few), plan("writer", limits=few))
    reader, writer = world.store("reader"), world.store("writer")
    for _ in range(11):  # whoever works for one that is silent may
        await reader.post([message("writer")])
    refused = None
    for _ in range(25):  # the minute may change once
        try:
            await writer.post([message("reader")])
            await reader.post([message("writer")])
        except Refused as error:
            refused = error
            break
    assert refused is not None and refused.reason == "pair_rate"
    assert "reader" in str(refused) and "writer" in str(refused) and "limits.pair_per_minute" in str(refused)
    assert [storm.kind for storm in await world.ledger.storms(0)] == ["pair_rate"]
    await reader.post([message("boss")])


async def test_an_agent_has_a_quota_and_a_batch_counts_as_many(world: World) -> None:
    await world.provision(plan("boss"), plan("writer", limits=AgentLimits(tells_per_minute=20)))
    writer = world.store("writer")
    await writer.post([message("boss") for _ in range(15)])
    with pytest.raises(Refused, match="tells_per_minute") as caught:
        for _ in range(3):  # the minute may change once
            await writer.post([message("boss", room=f"{n}") for n in range(15)])
    assert caught.value.reason == "quota"
    assert (await world.ledger.inbox("boss")).waiting % 15 == 0, "a refused batch left something"
    [storm] = await world.ledger.storms(0)
    assert (storm.kind, storm.sender, storm.recipient) == ("quota", "writer", "")


async def test_the_operator_has_no_quota(world: World) -> None:
    await world.provision(plan("boss", limits=AgentLimits(tells_per_minute=1)))
    for _ in range(5):
        await world.ledger.accept("operator", [message("boss")])
    assert (await world.ledger.inbox("boss")).waiting == 5


async def test_a_message_that_was_accepted_is_accepted_however_often_it_is_tried(world: World) -> None:
    await world.provision(plan("boss"), plan("writer", limits=AgentLimits(tells_per_minute=2)))
    first = message("boss")
    receipts = [(await world.store("writer").post([first]))[0] for _ in range(6)]
    assert receipts == [receipts[0]] * 6
