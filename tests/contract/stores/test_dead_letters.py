"""Dead letters on every implementation: what is kept of them, and how they are sent again or dropped."""

from __future__ import annotations

from hashlib import sha256

import msgspec
import pytest

from bus.errors import Refused
from swarm.bounds import MailBounds
from swarm.dead_letters import DeadLetter
from swarm.errors import InboxFull, NoAuthority
from swarm.ids import new_id
from swarm.records import AgentPermissions, Content, Outgoing, Turn
from tests.contract.store_fixtures import FAMILY, World, message, now, plan, task


async def die(world: World, sent: Outgoing, sender: str = "boss") -> DeadLetter:
    """Sent, taken in hand and given up."""
    await world.store(sender).post([sent])
    (got,) = await world.claim("reader")
    await world.store("reader").commit(Turn(delivery=got.delivery, dead="ValueError: it is no number"))
    letters = await world.ledger.dead_letters_of(sent.id)
    return letters[0]


async def test_a_dead_letter_keeps_reason_attempts_hash_and_last_error(world: World) -> None:
    content = Content("Ünï ☃", {"b": [1, 2.5, None], "aa": {"x": True}})
    sent = Outgoing(id=new_id(), to="reader", room="lobby", content=content)
    letter = await die(world, sent)
    assert (letter.sender, letter.recipient, letter.to, letter.state) == ("boss", "reader", "reader", "dead")
    assert letter.reason == letter.error == "ValueError: it is no number"
    assert letter.attempts == 1 and letter.content == content
    written = '{"data": {"b": [1, 2.5, null], "aa": {"x": true}}, "text": "Ünï ☃"}'
    assert letter.hash == sha256(written.encode()).hexdigest()
    assert await world.ledger.dead_letter(letter.delivery) == letter
    assert await world.ledger.dead_letter(10**12) is None


async def test_what_expired_is_a_dead_letter_and_one_that_crashed_says_its_last_error(world: World) -> None:
    boss = world.store("boss")
    await boss.post([message("reader", expires_at=now() - 1)])
    await world.ledger.end_overdue()
    await boss.post([message("writer")])
    for _ in range(3):
        (got,) = await world.claim("writer")
        await world.ledger.release([got.delivery], crashed=True)
    crashed, expired = await world.ledger.dead_letters()
    assert (expired.state, expired.reason, expired.attempts, expired.error) == (
        "expired",
        "its time passed",
        0,
        None,
    )
    assert (crashed.state, crashed.crashes, crashed.attempts) == ("dead", 3, 3)
    assert crashed.error == "an instance of its recipient died with it in hand"
    assert await world.ledger.dead_letters(agent="reader") == [expired]
    assert await world.ledger.dead_letters(limit=1, oldest=True) == [expired]


async def test_requeued_once_as_a_new_message_that_names_the_old(world: World) -> None:
    sent = message("reader", "again", room="plan", in_reply_to="x", expires_at=now() + 60_000)
    letter = await die(world, sent)
    again = await world.ledger.requeue(letter.delivery, new_id(), "operator")
    assert again.recipients == ("reader",) and again.id != sent.id
    (got,) = await world.claim("reader")
    assert (got.id, got.sender, got.room, got.content.text, got.attempt) == (
        again.id,
        "boss",
        "plan",
        "again",
        1,
    )
    assert got.expires_at is not None and got.expires_at > now()
    for tried in (
        world.ledger.requeue(letter.delivery, new_id(), "x"),
        world.ledger.drop_dead(letter.delivery, "x"),
    ):
        with pytest.raises(Refused, match=f"requeued before, by operator, as message {again.id}"):
            await tried
    assert await world.ledger.dead_letters() == []
    (settled,) = await world.ledger.dead_letters(settled=True)
    assert (settled.requeued_as, settled.requeued_by) == (again.id, "operator")
    await world.store("reader").commit(Turn(delivery=got.delivery, dead="again no number"))
    (second,) = await world.ledger.dead_letters()
    assert (second.id, second.requeue_of, second.hash) == (again.id, sent.id, letter.hash)


async def test_i3_a_dead_letter_that_goes_again_goes_behind_and_holds_up_nothing(world: World) -> None:
    letter = await die(world, message("reader", "1"))
    await world.store("boss").post([message("reader", "2")])
    await world.ledger.requeue(letter.delivery, new_id(), "operator")
    got = await world.claim("reader")
    assert [d.content.text for d in got] == ["2", "1"]
    for dispatch in got:
        assert (await world.store("reader").commit(Turn(delivery=dispatch.delivery))).status == "committed"


async def test_dropped_is_remembered_and_not_sent_again(world: World) -> None:
    letter = await die(world, message("reader"))
    await world.ledger.drop_dead(letter.delivery, "operator")
    with pytest.raises(Refused, match="was dropped by operator"):
        await world.ledger.requeue(letter.delivery, new_id(), "operator")
    assert await world.ledger.dead_letters() == []
    (kept,) = await world.ledger.dead_letters(settled=True)
    assert kept.dropped_by == "operator" and kept.dropped_at is not None and kept.content == letter.content
    with pytest.raises(Refused, match="no dead letter"):
        await world.ledger.drop_dead(10**12, "operator")


async def test_requeue_asks_for_todays_authority_and_room(world: World) -> None:
    told = await die(world, message("reader", "told"))
    news = await die(world, message("reader", "news", kind="announce"), "stranger")
    tasked = task("reader", deadline=now() - 1)
    await world.store("boss").delegate([tasked])
    await world.ledger.end_overdue()
    (work,) = await world.ledger.dead_letters_of(tasked.id)
    less = {
        "boss": plan("boss"),
        "reader": msgspec.structs.replace(FAMILY[1], bounds=MailBounds(inbox_messages=1)),
        "writer": FAMILY[2],
        "stranger": plan("stranger", permissions=AgentPermissions(announce=False)),
    }
    await world.provision(*less.values())
    with pytest.raises(NoAuthority):
        await world.ledger.requeue(work.delivery, new_id(), "operator")
    with pytest.raises(Refused, match="stranger may not announce"):
        await world.ledger.requeue(news.delivery, new_id(), "operator")
    await world.store("writer").post([message("reader", "fills it")])
    with pytest.raises(InboxFull):
        await world.ledger.requeue(told.delivery, new_id(), "operator")
    del less["stranger"]
    await world.provision(*less.values())
    with pytest.raises(Refused, match="sender stranger is no longer in the swarm"):
        await world.ledger.requeue(news.delivery, new_id(), "operator")
    assert len(await world.ledger.dead_letters()) == 3, "a refusal settles nothing"
    await world.provision(*FAMILY)
    again = await world.ledger.requeue(work.delivery, new_id(), "operator")
    new_task = await world.ledger.task(again.id)
    assert new_task is not None and (new_task.goal, new_task.child) == (tasked.goal, "reader")


async def test_a_task_whose_letter_was_sent_again_was_done_twice_when_it_was_retried_too(
    world: World,
) -> None:
    """`swarm dead requeue` and `swarm task retry` are one thing for a task, and have one bound."""
    given = task("reader", deadline=now() - 1)
    for first in ("requeue", "retry"):
        await world.store("boss").delegate([given])
        await world.ledger.end_overdue()
        (letter,) = await world.ledger.dead_letters_of(given.id)
        if first == "retry":
            retried = (await world.ledger.retry("operator", given.id)).task.id
            again = (await world.ledger.requeue(letter.delivery, new_id(), "operator")).id
        else:
            again = (await world.ledger.requeue(letter.delivery, new_id(), "operator")).id
            retried = (await world.ledger.retry("operator", given.id)).task.id
        assert again == retried
        new_task = await world.ledger.task(again)
        assert new_task is not None and new_task.retry_of == given.id
        (settled,) = await world.ledger.dead_letters_of(given.id)
        assert settled.requeued_as == again
        given = task("writer", deadline=now() - 1)


async def test_a_notice_is_never_sent_again(world: World) -> None:
    await die(world, message("reader"))
    for _ in range(3):
        (notice,) = await world.claim("boss")
        await world.ledger.release([notice.delivery], crashed=True)
    (letter,) = await world.ledger.dead_letters(agent="boss")
    with pytest.raises(Refused, match="A notice is not sent again"):
        await world.ledger.requeue(letter.delivery, new_id(), "operator")
