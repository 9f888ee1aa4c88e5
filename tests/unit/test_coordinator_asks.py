"""Every ask ends once: in a reply from the right instance, or in an error that says what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from bus.errors import BadMessage, Failed, NobodyThere, Refused, TooLate
from bus.permissions import permissions_of
from swarm.ids import string_to_uuid
from swarm.records import OPERATOR
from swarm.testing import eventually
from tests.coordinator_house import SUBJECTS, House, a_house, plan, tell


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with a_house() as house:
        await house.provision(
            plan("writer"),
            plan("reader", parent="writer", roles=("summarise",)),
            plan("scribe", parent="writer", roles=("summarise",)),
        )
        await house.coordinator()
        yield house


async def test_an_ask_is_answered_by_name_id_role_and_parent(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    reader.answer = lambda _: "I read"
    writer.answer = lambda _: "I write"
    for address in ("reader", string_to_uuid("reader"), "role:summarise"):
        assert await writer.ask(address) == "I read"
    assert await reader.ask("parent") == "I write"
    assert {envelope.to for envelope in reader.asked} == {"reader"}


async def test_a_role_is_shared_by_those_who_offer_it(house: House) -> None:
    writer = await house.instance("writer")
    reader, scribe = await house.instance("reader"), await house.instance("scribe")
    for _ in range(6):
        await writer.ask("role:summarise")
    assert len(reader.asked) == len(scribe.asked) == 3


async def test_an_unknown_address_is_an_error_with_near_names(house: House) -> None:
    writer = await house.instance("writer")
    with pytest.raises(Refused, match="did you mean reader") as refused:
        await writer.ask("raeder")
    assert refused.value.reason == "unknown_agent"
    with pytest.raises(Refused, match="did you mean role:summarise"):
        await writer.ask("role:sumarise")


async def test_a_known_but_absent_agent_is_said_to_be_absent_at_once(house: House) -> None:
    writer = await house.instance("writer")
    with pytest.raises(NobodyThere, match="tell it instead") as nobody:
        await writer.ask("reader", within=60)
    assert nobody.value.reason == "absent"


@pytest.mark.parametrize(
    ("to", "fields", "kind", "reason"),
    [
        ("children", {}, Refused, "many"),
        ("all", {}, Refused, "many"),
        ("group:readers", {}, Refused, "many"),
        ("writer", {}, Refused, "self"),
        ("parent", {}, Refused, "no_parent"),
        ("reader", {"hops": 33}, Refused, "hops"),
        ("reader", {"deadline": 1}, TooLate, "too_late"),
        ("reader", {"kind": "task"}, Refused, "bad_kind"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    house: House, to: str, fields: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    writer = await house.instance("writer")
    await house.instance("reader")
    with pytest.raises(kind) as error:
        await writer.ask(to, **fields)
    assert error.value.reason == reason  # type: ignore[attr-defined]


async def test_a_foreign_reply_address_is_not_honoured(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    coordinator = next(iter(house._running))
    await writer.bus.publish(
        SUBJECTS.up("writer", "ask"), writer.ask_envelope("reader"), reply="_INBOX.scribe.stolen"
    )
    await eventually(lambda: coordinator.metrics.foreign_replies == 1)
    assert await writer.ask("reader") == "pong"  # what came after has been routed, so the first was dropped
    assert len(reader.asked) == 1


async def test_a_forged_sender_is_refused(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    with pytest.raises(Refused) as refused:
        await writer.ask("reader", sender="scribe")
    assert refused.value.reason == "forged_sender"
    assert not reader.asked


async def test_the_ledger_s_numbers_in_an_ask_are_taken_off(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    await writer.ask("reader", delivery=1, attempt=2)
    assert (reader.asked[0].delivery, reader.asked[0].attempt) == (None, 0)


async def test_open_askers_hear_at_once_that_the_instance_died(house: House) -> None:
    node = await house.node("node-1")
    writer, reader = await house.instance("writer"), await house.instance("reader")
    reader.answer = lambda _: None
    began = time.monotonic()

    async def kill() -> None:
        await eventually(lambda: reader.asked)
        await reader.die()
        await node.exited("reader", reader.name)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        with pytest.raises(Failed, match="died") as failed:
            await writer.ask("reader", within=30, deadline=int(time.time() * 1000) + 30_000)
    assert failed.value.reason == "crashed"
    assert time.monotonic() - began < 5


async def test_an_operator_asks_and_is_answered_straight(house: House) -> None:
    reader = await house.instance("reader")
    bus = await house.connect("operator-7", permissions_of("operator", SUBJECTS, "operator-7"))
    ask = msgspec.structs.replace(reader.ask_envelope("reader"), sender="operator-7")
    reply = await bus.request(SUBJECTS.ctl("operator-7", "ask"), ask, timeout=5)
    assert (reply.kind, reply.sender) == ("reply", "reader")
    assert reader.asked[0].sender == OPERATOR
    answer = await house.command("ask", agent="reader", text="ping")
    assert (answer["from"], answer["text"], answer["data"]) == ("reader", "pong", {})


async def test_an_operator_s_own_ask_ends_when_the_instance_dies(house: House) -> None:
    node, reader = await house.node("node-1"), await house.instance("reader")
    reader.answer = lambda _: None

    async def kill() -> None:
        await eventually(lambda: reader.asked)
        await reader.die()
        await node.exited("reader", reader.name)

    async with asyncio.TaskGroup() as group:
        group.create_task(kill())
        with pytest.raises(Failed, match="died"):
            await house.command("ask", agent="reader", text="ping")


async def test_a_malformed_body_is_answered_and_harms_nobody(house: House) -> None:
    writer = await house.instance("writer")
    with pytest.raises(BadMessage):
        await writer.bus.request(SUBJECTS.up("writer", "hello"), writer.envelope("nonsense"), timeout=5)
    deep = msgspec.Raw(b"\x91" * 100_000 + b"\xc0")
    envelope = msgspec.structs.replace(writer.envelope({}), body=deep)
    with pytest.raises(BadMessage):
        await writer.bus.request(SUBJECTS.up("writer", "bell"), envelope, timeout=5)
    await house.instance("reader")
    assert await writer.ask("reader") == "pong"


async def test_an_agent_that_nobody_knows_is_not_welcome(house: House) -> None:
    stranger = await house.instance("scribe")
    bus = await house.connect("stranger", permissions_of("agent", SUBJECTS, "stranger"))
    hello = msgspec.structs.replace(
        stranger.envelope({"type": "hello", "instance": "s-1"}), sender="stranger"
    )
    with pytest.raises(Refused) as refused:
        await bus.request(SUBJECTS.up("stranger", "hello"), hello, timeout=5)
    assert refused.value.reason == "unknown_agent"


async def test_an_agent_without_a_store_tells_through_the_coordinator(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    said = writer.ask_envelope("reader", kind="tell")
    said = msgspec.structs.replace(said, id=tell("reader", "x").id, deadline=None)
    reply = await writer.bus.request(SUBJECTS.up("writer", "tell"), said, timeout=5)
    assert msgspec.msgpack.decode(reply.body)["recipients"] == ["reader"]
    await eventually(lambda: reader.handled == ["ping"])
    unknown = msgspec.structs.replace(said, id=tell("x", "x").id, to="raeder")
    with pytest.raises(Refused, match="did you mean reader"):
        await writer.bus.request(SUBJECTS.up("writer", "tell"), unknown, timeout=5)


async def test_asks_do_not_overtake_each_other(house: House) -> None:
    writer, reader = await house.instance("writer"), await house.instance("reader")
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(writer.ask("reader"))
    ids = [envelope.id for envelope in reader.asked]
    assert len(ids) == 50 and all(a < b for a, b in pairwise(ids))


async def test_commands_with_wrong_words_are_refused_with_a_sentence(house: House) -> None:
    with pytest.raises(Refused, match="did you mean tell"):
        await house.command("telll", agent="reader")
    with pytest.raises(Refused, match="inbox takes agent, limit") as refused:
        await house.command("inbox", agnet="reader")
    assert refused.value.reason == "usage"
    with pytest.raises(Refused, match="did you mean reader"):
        await house.command("inbox", agent="raeder")
    with pytest.raises(Refused, match="no message"):
        await house.command("message_show", id=tell("x", "x").id)


async def test_f6_a_loop_through_asks_ends_before_it_fills_its_agents_and_is_named() -> None:
    """Each ask of the chain holds a place of its agent: at 32 hops all 16 of both would be taken."""
    async with a_house() as house:
        await house.provision(plan("reader"), plan("writer"))
        await house.coordinator()
        reader, writer = await house.instance("reader"), await house.instance("writer")
        pair = ((writer, "reader"), (reader, "writer"))
        with pytest.raises(Refused, match="writer → reader") as caught:
            for hop in range(1, 33):
                asker, to = pair[(hop + 1) % 2]
                await asker.ask(to, hops=hop, origin="first", room=f"fresh {hop}")
        assert (caught.value.reason, hop) == ("hops", 17)
        rows = {row["name"]: row["limit"] for row in await house.command("ps")}
        assert rows["reader"] == rows["writer"] and rows["writer"].startswith("hops: ")
        for _ in range(20):  # many asks of one turn are no loop
            assert await writer.ask("reader", hops=1, origin="second") == "pong"
