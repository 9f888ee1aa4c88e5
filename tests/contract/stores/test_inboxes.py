"""The bounds of inboxes and of announcing, groups and roles, on every implementation."""

from __future__ import annotations

import msgspec
import pytest

from bus.errors import Refused
from swarm.bounds import MailBounds
from swarm.errors import InboxFull, NoAuthority, StoreError, UnknownAgent
from swarm.records import AgentPermissions, Turn
from tests.contract.store_fixtures import FAMILY, World, memory, message, now, task


async def bounded(world: World, agent: str = "reader", **bounds: int) -> None:
    """The family, with bounds for one of them."""
    await world.provision(
        *(msgspec.structs.replace(p, bounds=MailBounds(**bounds)) if p.name == agent else p for p in FAMILY)
    )


async def test_f3_a_full_inbox_refuses_a_tell_and_names_recipient_bound_and_remedy(world: World) -> None:
    await bounded(world, inbox_messages=2)
    boss = world.store("boss")
    sent = [message("reader", "1"), message("reader", "2")]
    await boss.post(sent)
    with pytest.raises(
        InboxFull, match=r"inbox of reader is full: 2 .* bound is 2 \(inbox_messages\)"
    ) as caught:
        await boss.post([message("reader", "3")])
    assert caught.value.recipient == "reader" and "swarm start reader" in caught.value.text
    assert (await boss.post([sent[0]]))[0].recipients == ("reader",), "what was accepted stays accepted"
    await boss.post([message("writer", "others do not suffer")])
    with pytest.raises(InboxFull):
        await boss.post([message("writer"), message("reader")])  # all or none
    assert await world.ledger.waiting() == {"reader": 2, "writer": 1}
    assert len(await world.claim("reader", 1)) == 1
    await boss.post([message("reader", "3")])
    with pytest.raises(InboxFull):
        await boss.delegate([task("reader")])


async def test_f3_bytes_are_a_bound_too_and_every_way_out_of_an_inbox_frees_its_place(world: World) -> None:
    await bounded(world, inbox_bytes=250)
    boss, reader = world.store("boss"), world.store("reader")
    await boss.post([message("reader", "x" * 100), message("reader", "y" * 100, expires_at=now() - 1)])
    view = await world.ledger.inbox("reader")
    assert (view.waiting, view.bytes, view.bounds.inbox_bytes) == (2, 2 * len('{"text": ""}') + 200, 250)
    with pytest.raises(InboxFull, match="bytes wait there"):
        await boss.post([message("reader", "z" * 100)])
    await world.ledger.end_overdue()
    (got,) = await world.claim("reader")
    assert (await world.ledger.inbox("reader")).bytes == 0
    await world.ledger.release([got.delivery], crashed=False)
    assert (await world.ledger.inbox("reader")).waiting == 1
    assert (await reader.commit(Turn(delivery=got.delivery))).status == "committed"
    view = await world.ledger.inbox("reader")
    assert (view.waiting, view.bytes) == (0, 0)


async def test_f3_at_the_bound_a_turn_is_kept_and_its_message_is_a_dead_letter(world: World) -> None:
    await bounded(world, inbox_messages=1)
    boss, writer = world.store("boss"), world.store("writer")
    await boss.post([message("writer", "work"), message("reader", "fills it")])
    (got,) = await world.claim("writer")
    lost = message("reader", "no room")
    turn = Turn(delivery=got.delivery, memories=(memory("kept"),), outgoing=(message("boss", "fine"), lost))
    done = await writer.commit(turn)
    assert (done.status, done.recipients, done.dead) == ("committed", ("boss",), (lost.id,))
    assert [m.content.text for m in await writer.get_memories()] == ["kept"]
    (letter,) = await world.ledger.dead_letters()
    assert (letter.id, letter.recipient, letter.state) == (lost.id, "reader", "dead")
    assert "inbox of reader is full" in letter.reason
    (notice,) = await world.claim("writer")
    assert notice.kind == "notice" and notice.content.data["message"] == lost.id


async def test_results_and_notices_come_into_a_full_inbox(world: World) -> None:
    """They answer what their recipient sent itself, one for each: refusing them would lose the account of it."""
    await bounded(world, "boss", inbox_messages=1)
    boss = world.store("boss")
    await boss.post([message("reader", expires_at=now() - 1)])
    await world.store("stranger").post([message("boss", "fills it")])
    await world.ledger.end_overdue()
    assert [d.kind for d in await world.claim("boss", 0)] == ["notice"]
    with pytest.raises(InboxFull):
        await world.store("stranger").post([message("boss")])


async def test_f3_what_waits_longer_than_its_recipient_keeps_mail_expires(world: World) -> None:
    boss = world.store("boss")
    old, tasked = message("reader", "old"), task("reader")
    await boss.post([old])
    await boss.delegate([tasked])
    await boss.post([message("writer", "young")])
    assert await world.ledger.end_aged() == []
    await bounded(world, inbox_ms=1)
    await _until_older_than(world)
    ended = await world.ledger.end_aged()
    assert [(e.id, e.recipient, e.state) for e in ended] == [
        (old.id, "reader", "expired"),
        (tasked.id, "reader", "expired"),
    ]
    assert "inbox_days" in ended[0].reason
    assert {d.kind for d in await world.claim("boss")} == {"notice", "result"}
    assert await world.ledger.waiting() == {"writer": 1}


async def _until_older_than(world: World) -> None:
    """Until the clock has moved on by more than the bound."""
    begun = now()
    while now() <= begun + 2:
        await world.ledger.ping()


async def test_f1_a_thousand_that_waited_come_in_order_before_what_is_new(world: World) -> None:
    boss, reader = world.store("boss"), world.store("reader")
    for hundred in range(10):
        await boss.post([message("reader", str(hundred * 100 + n)) for n in range(100)])
    assert (await world.ledger.waiting())["reader"] == 1000
    got: list[str] = []
    live = 1000
    while claimed := await world.claim("reader", 64):
        if live < 1010:
            await boss.post([message("reader", str(live))])
            live += 1
        for dispatch in claimed:
            assert (await reader.commit(Turn(delivery=dispatch.delivery))).status == "committed"
            got.append(dispatch.content.text)
    assert got == [str(n) for n in range(1010)]
    assert await world.ledger.waiting() == {}


# ── groups and roles ──────────────────────────────────────────────────────────────────────────────
async def test_f4_a_group_gets_it_without_its_sender_and_without_who_comes_later(world: World) -> None:
    names = [p.name for p in FAMILY]
    passwords = {name: world.password(name) for name in names}
    await world.ledger.provision(FAMILY, passwords, groups={"press": ["boss", "reader"], "me": ["boss"]})
    boss = world.store("boss")
    said = message("group:press", kind="announce")
    assert (await boss.post([said]))[0].recipients == ("reader",)
    assert await boss.resolve("group:press") == ("reader",)
    assert (await boss.post([message("group:me")]))[0].recipients == (), (
        "a group of nobody else is no mistake"
    )
    await world.ledger.provision(FAMILY, passwords, groups={"press": ["boss", "reader", "writer"]})
    view = await world.ledger.message(said.id)
    assert view is not None and [d.to for d in view.deliveries] == ["reader"]
    assert (await boss.post([said]))[0].recipients == ("reader",)
    with pytest.raises(UnknownAgent, match=r"no group 'group:pres'; did you mean group:press\?"):
        await boss.post([message("group:pres")])
    with pytest.raises(UnknownAgent):
        await boss.resolve("group:me")
    with pytest.raises(StoreError, match=r"member 'reade' .* did you mean reader\?"):
        await world.ledger.provision(FAMILY, passwords, groups={"press": ["reade"]})


async def test_an_announcement_to_a_role_is_for_all_that_offer_it_and_a_tell_for_one(world: World) -> None:
    boss = world.store("boss")
    receipts = await boss.post([message("role:summarise", kind="announce"), message("role:summarise")])
    assert receipts[0].recipients == ("reader", "writer")
    assert len(receipts[1].recipients) == 1
    reader = world.store("reader")
    assert (await reader.post([message("role:summarise", kind="announce")]))[0].recipients == ("writer",)


async def test_i12_an_announcement_accounts_for_those_whose_inbox_is_full(world: World) -> None:
    await bounded(world, inbox_messages=1)
    boss = world.store("boss")
    said = message("all", "news", kind="announce")
    await boss.post([message("reader", "fills it")])
    assert (await boss.post([said]))[0].recipients == ("stranger", "writer")
    view = await world.ledger.message(said.id)
    assert view is not None
    assert {d.to: d.state for d in view.deliveries} == {
        "reader": "dead",
        "stranger": "accepted",
        "writer": "accepted",
    }
    (notice,) = await world.claim("boss")
    assert notice.content.data["recipient"] == "reader"


# ── announcing ────────────────────────────────────────────────────────────────────────────────────
async def test_announcing_is_a_right_and_a_turn_that_has_it_not_is_kept(world: World) -> None:
    mute = AgentPermissions(announce=False)
    await world.provision(
        *(msgspec.structs.replace(p, permissions=mute) if p.name == "stranger" else p for p in FAMILY)
    )
    stranger = world.store("stranger")
    for said in (message("all", kind="announce"), message("all"), message("reader", kind="announce")):
        with pytest.raises(NoAuthority, match="stranger may not announce"):
            await stranger.post([said])
    await stranger.post([message("reader", "a tell is no announcement")])
    await world.store("boss").post([message("stranger", "work")])
    (got,) = await world.claim("stranger")
    said = message("all", kind="announce")
    done = await stranger.commit(Turn(delivery=got.delivery, outgoing=(said,)))
    assert (done.status, done.dead) == ("committed", (said.id,))
    assert [d.kind for d in await world.claim("stranger")] == ["notice"]
    assert (await world.ledger.waiting()) == {"reader": 1}
    assert [s.kind for s in await world.ledger.storms(since=0)] == ["announce_right"]


async def test_how_often_and_how_large_one_announces_is_bounded_and_loud(world: World) -> None:
    await bounded(world, "boss", announce_per_minute=2, announce_bytes=100)
    boss = world.store("boss")
    said = message("all", kind="announce")
    await boss.post([said])
    await boss.post([message("all")])
    assert (await boss.post([said]))[0].recipients == ("reader", "stranger", "writer"), (
        "the same is not another"
    )
    with pytest.raises(Refused, match=r"boss has announced 2 times .* limits.announce_per_minute") as caught:
        await boss.post([message("role:read", kind="announce")])
    assert caught.value.reason == "announce_limit"
    with pytest.raises(Refused, match=r"112 bytes are more than boss may announce at once, which is 100"):
        await boss.post([message("all", "x" * 100, kind="announce")])
    await boss.post(
        [message("reader", "x" * 100), message("children", "to one's own children is no announcement")]
    )
    await world.store("stranger").post([message("all")])
    (storm,) = await world.ledger.storms(since=0)
    assert (storm.kind, storm.sender, storm.refused) == ("announce_limit", "boss", 2)
