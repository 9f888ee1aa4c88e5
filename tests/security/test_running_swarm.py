"""A running swarm, as `swarm up` makes it, under raw clients: garbage, floods, replays; and secrets planted in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import nats
from nats.aio.client import Client

from bus.credentials import Authority
from swarm.testing import eventually
from tests.running import Running, running_swarm

SEED, ENVELOPES = 6, 10_000
PLANTED = {name: f"planted-{name}-{uuid.uuid4().hex}" for name in ("character", "setting", "variable")}
TOML = """
[swarm]
name = "abused"

[agents.ada]
character = "ada"
permissions = { create_children = true, control_children = true }
settings = { API_KEY = "SETTING", VAULT_TOKEN = "${ABUSE_VARIABLE}" }

[agents.bob]
character = "bob.json"
parent = "ada"

[agents.eve]
character = "eve.json"
"""
PLUGIN = """
from swarm import Plugin

plugin = Plugin("ada")


@plugin.action("LEAK")
async def leak(message, runtime):
    "Fails with all that it knows."
    known = [runtime.get_setting(name) for name in ("CHARACTER_TOKEN", "API_KEY", "VAULT_TOKEN")]
    assert all(known), "the secrets are there"
    runtime.log.error("it knows %s", known)
    raise ValueError(f"crashed with {known}")
"""


def character(name: str, **more: Any) -> str:
    return json.dumps({"name": name, "bio": "Is in a test.", **more})


FILES = {
    "ada/character.json": character("ada", settings={"secrets": {"CHARACTER_TOKEN": PLANTED["character"]}}),
    "ada/plugin.py": PLUGIN,
    "bob.json": character("bob"),
    "eve.json": character("eve"),
}


@asynccontextmanager
async def raw(running: Running, role: Any, name: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """nats-py with the credentials of a name, and what the server refused it."""
    file = running.folder / f"{name}.raw.creds"
    Authority.load(running.project.authority_file).mint(role, name).save(file)
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error).lower())

    connection = await nats.connect(
        running.project.require_state().bus_url,
        user_credentials=str(file),
        inbox_prefix=f"_INBOX.{name}",
        error_cb=note,
        pending_size=64 << 20,
    )
    try:
        yield connection, refused
    finally:
        file.unlink()
        await connection.close()


def envelope(sender: str, **fields: Any) -> bytes:
    given = {"v": 1, "id": str(uuid.uuid4()), "sender": sender, "to": "bob", "room": "r", "kind": "tell"}
    return msgspec.msgpack.encode(given | {"body": {"text": "x"}} | fields)


def garbage(chance: random.Random, sender: str) -> Iterator[bytes]:
    """Bytes that are no envelopes of this protocol, or are and say what is not so."""
    good = {
        "v": 1,
        "id": "x",
        "sender": sender,
        "to": "bob",
        "room": "r",
        "kind": "tell",
        "body": {"text": "x"},
    }
    wrong: list[Any] = [
        None, -1, 2**63, 2**64 - 1, 1.5, float("nan"), "", "\x00", "a\x00b", "é" * 70, "x" * 300, [], {}, [[[]]],
        b"\xff\xfe", True, "../..", "*", ">", "a.b", "coordinator", "operator", "'; drop table agents; --",
    ]  # fmt: skip
    big = b"\xcf" + (2**64 - 1).to_bytes(8, "big")
    beyond = b"\xc7\x09\x02" + (2**70).to_bytes(9, "big")  # an extension type, as bignums are packed
    fields = [*good, "deadline", "hops", "delivery", "attempt", "in_reply_to", "origin", "traceparent"]
    for number in range(ENVELOPES):
        match number % 8:
            case 0:
                yield chance.randbytes(chance.randrange(0, 200))
            case 1:
                yield envelope(sender)[: chance.randrange(1, 90)]
            case 2 | 3:
                changed = dict.fromkeys(chance.sample(fields, chance.randint(1, 3)), chance.choice(wrong))
                yield msgspec.msgpack.encode(good | changed)
            case 4:
                yield msgspec.msgpack.encode(good | {"v": chance.choice([0, 2, 255, "1", None])})
            case 5:
                mutated = bytearray(envelope(sender))
                for _ in range(chance.randint(1, 8)):
                    mutated[chance.randrange(len(mutated))] = chance.randrange(256)
                yield bytes(mutated)
            case 6:
                yield msgspec.msgpack.encode(good)[:-8] + b"\xa4body" + chance.choice([big, beyond])
            case _:
                yield msgspec.msgpack.encode(good | {"body": chance.choice(wrong)})
    for nested in (b"\x91" * 100_000 + b"\xc0", b"\x91" * 100_000, b"\x81\xa1a" * 50_000 + b"\xc0"):
        yield nested
        yield msgspec.msgpack.encode({k: v for k, v in good.items() if k != "body"} | {"zz": 0})[:-4] + nested
    yield envelope(sender, body={"text": "x" * 1_400_000})


async def pids(running: Running) -> dict[str, int]:
    """Of the coordinator and of every agent."""
    state = running.project.require_state()
    rows = await running.json("ps")
    return {name: child.pid for name, child in state.children.items()} | {r["name"]: r["pid"] for r in rows}


async def fuzzed(running: Running) -> None:
    """Every verb of the coordinator by way of `eve`, and `ada` by way of the coordinator's own door down."""
    chance = random.Random(SEED)
    instance = next(row["instance"] for row in await running.json("ps") if row["name"] == "ada")
    verbs = ("ask", "tell", "bell", "beat", "hello", "goodbye", "spawn", "child", "nonsense")
    async with raw(running, "agent", "eve") as (eve, refused):
        for number, data in enumerate(garbage(chance, "eve")):
            reply = f"_INBOX.eve.{number}" if number % 3 else ""
            await eve.publish(f"abused.up.eve.{verbs[number % len(verbs)]}", data, reply=reply)
            if number % 500 == 0:
                await eve.flush()
        await eve.flush()
        assert not refused
    async with raw(running, "coordinator", "coordinator") as (impostor, _):  # the worst that `ada` could hear
        for number, data in enumerate(garbage(chance, "coordinator")):
            await impostor.publish(f"abused.down.ada.{instance}", data)
            if number % 500 == 0:
                await impostor.flush()
        await impostor.flush()
    assert "text" in await running.json("ask", "ada", "are you there?")
    for log in ("coordinator.log", "ada-1.log"):
        counted = re.findall(r"bad_messages: (\d+)", (running.project.logs / log).read_text())
        assert max(map(int, counted)) >= 4096, f"{log}: it was looked at, and refused"


async def flooded(running: Running) -> None:
    """`eve` floods with tells and announcements: each has an answer, and what others say is handled after them."""
    said = {"to": "bob", "room": "flood"}
    async with raw(running, "agent", "eve") as (eve, _):
        answers: list[bytes] = []

        async def keep(message: Any) -> None:
            answers.append(message.data)

        await eve.subscribe("_INBOX.eve.flood.*", cb=keep)
        for number in range(3000):
            storm = number % 3 == 0
            data = envelope("eve", **said | ({"to": "all", "kind": "announce"} if storm else {}))
            await eve.publish("abused.up.eve.tell", data, reply=f"_INBOX.eve.flood.{number}")
        await eve.flush()
        for _ in range(3):
            assert "text" in await running.json("ask", "ada", "are you there?")
        told = await running.json("tell", "ada", "in or after the flood")

        async def handled() -> bool:
            shown = await running.json("message", "show", told["id"])
            return [one["state"] for one in shown["deliveries"]] == ["handled"]

        await eventually(handled, seconds=20, what="another's message, handled")
        before = len(answers)
        await eventually(lambda: len(answers) >= 3000, seconds=60, what="an answer to each of the flood")
        reasons = [msgspec.msgpack.decode(data) for data in answers]
        refusals = [one["body"]["reason"] for one in reasons if one["kind"] == "error"]
        print(
            f"{before} of {len(answers)} of the flood were answered before another was; refused: {len(refusals)}"
        )
        bounds = {"busy", "announce_limit", "quota", "pair_rate", "inbox_full", "conversation"}
        assert set(refusals) <= bounds, "each is accepted, or told which bound it passed"
        assert len(refusals) < len(answers)


async def replayed(running: Running) -> None:
    """An envelope that is sent again is accepted once; a stale one from the coordinator's side commits nothing."""
    data = envelope("eve", id=str(uuid.uuid4()), room="replay")
    async with raw(running, "agent", "eve") as (eve, _):
        answers = [
            msgspec.msgpack.decode((await eve.request("abused.up.eve.tell", data, timeout=10)).data)
            for _ in range(5)
        ]
    assert {answer["kind"] for answer in answers} == {"reply"}
    shown = await running.json("message", "show", answers[0]["body"]["id"])
    assert len(shown["deliveries"]) == 1
    async with raw(running, "agent", "bob") as (bob, refused):
        reply = await bob.request("abused.up.bob.tell", data, timeout=10)  # another's, replayed
        assert msgspec.msgpack.decode(reply.data)["body"]["reason"] == "forged_sender"
        foreign = "_INBOX.eve.stolen"
        async with raw(running, "agent", "eve") as (eve, _):
            heard: list[Any] = []

            async def hear(message: Any) -> None:
                heard.append(message)

            await eve.subscribe("_INBOX.eve.>", cb=hear)
            await eve.flush()
            await bob.publish("abused.up.bob.ask", envelope("bob", kind="ask", to="ada"), reply=foreign)
            await bob.publish("abused.up.bob.tell", b"\xc1", reply=foreign)
            answer = await bob.request("abused.up.bob.tell", envelope("bob", to="ada", id=str(uuid.uuid4())))
            assert msgspec.msgpack.decode(answer.data)["kind"] == "reply"
            await eve.flush()
            assert not heard and not refused


async def asked_for_rights(running: Running) -> None:
    """`bob`, a child, spawns, permits, stops others: refused by the ledger or by the bus."""
    async with raw(running, "agent", "bob") as (bob, refused):
        child = {"name": "mine", "id": str(uuid.uuid4()), "character": {"name": "mine"}, "version": "1"}
        rights = {"create_children": True, "control_children": True}
        for verb, body in (
            ("spawn", {"type": "spawn", "child": child | {"permissions": rights}}),
            ("child", {"type": "child", "child": "ada", "action": "stop"}),
            ("child", {"type": "child", "child": "eve", "action": "remove"}),
            ("permit", {"args": {"agent": "bob", "rights": rights}}),
            ("control", {"args": {"agent": "bob", "rights": rights}}),
        ):
            data = envelope("bob", to="coordinator", kind="control", body=body)
            reply = msgspec.msgpack.decode(
                (await bob.request(f"abused.up.bob.{verb}", data, timeout=10)).data
            )
            assert reply["kind"] == "error", (verb, reply)
        assert not refused
        await bob.publish("abused.ctl.bob.permit", envelope("bob"))
        await bob.publish("abused.ctl.operator.permit", envelope("operator"))
        await eventually(lambda: len(refused) == 2, what="the server's refusals")
    assert not {row["name"] for row in await running.json("ps")} & {"mine"}


async def planted(running: Running) -> dict[str, str]:
    """All secrets of this swarm by name: those planted, and those that it made itself."""
    secrets = {f"planted {name}": value for name, value in PLANTED.items()}
    for file in (running.project.home / "secrets").iterdir():
        text = file.read_text()
        with contextlib.suppress(ValueError):
            text = json.dumps(json.loads(text))
        for word in text.replace('"', " ").replace(",", " ").split():
            if word.startswith(("SU", "SA", "SO")) and len(word) == 58:
                secrets[f"seed in {file.name} {word[:4]}"] = word
    secrets["project secret"] = running.project.secret("project")
    for name in ("ada", "bob", "eve"):
        secrets[f"store password of {name}"] = running.project.agent_password(running.swarm, name)
    return secrets


async def everything_shown(running: Running) -> dict[str, str]:
    """By where it stands: logs, tables, what commands print."""
    shown: dict[str, str] = {}
    for file in running.project.logs.rglob("*"):
        if file.is_file():
            shown[f"log {file.name}"] = file.read_text(errors="replace")
    for words in (
        ("ps",), ("tree",), ("doctor",), ("doctor", "ada"), ("inbox", "ada"), ("task", "ls"), ("dead", "ls"),
        ("logs", "ada"), ("config", "show"), ("character", "show", "ada"), ("tell", "nobody", "x"),
    ):  # fmt: skip
        for form in ((), ("--json",)):
            done = await running.cli(*words, *form, check=None)
            shown[" ".join((*words, *form))] = done.stdout + done.stderr
    return shown | await _tables(running)


async def _tables(running: Running) -> dict[str, str]:
    import asyncpg

    url = (running.project.home / "secrets" / "store_url").read_text()
    connection = await asyncpg.connect(url)
    try:
        names = await connection.fetch("select tablename from pg_tables where schemaname = $1", "abused")
        assert len(names) > 10
        return {
            f"table {r['tablename']}": "\n".join(
                row[0] for row in await connection.fetch(f'select t::text from abused."{r["tablename"]}" t')
            )
            for r in names
        }
    finally:
        await connection.close()


async def leaked(running: Running) -> None:
    """`ada` fails with every secret in its error; none of them is to be found anywhere."""
    await running.cli("ask", "ada", "leak: now", check=None)
    await running.json("tell", "ada", "leak: again")

    async def noted() -> bool:
        return "crashed with" in "".join(
            f.read_text() for f in running.project.logs.rglob("*ada*") if f.is_file()
        )

    await eventually(noted, what="the failure in the log")
    secrets, shown = await planted(running), await everything_shown(running)
    assert len(secrets) >= 8, "seeds, passwords and what was planted"
    assert any("crashed with" in text for text in shown.values())
    found = [
        f"{name} in {where}"
        for name, value in secrets.items()
        for where, text in shown.items()
        if value in text
    ]
    assert not found


async def test_a_swarm_under_garbage_floods_replays_and_crashes_goes_on_serving_and_tells_no_secret(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("ABUSE_VARIABLE", PLANTED["variable"])
    toml = TOML.replace("SETTING", PLANTED["setting"], 1)
    async with running_swarm(tmp_path / "p", toml, FILES) as running:
        before = await pids(running)
        for attack in (fuzzed, replayed, asked_for_rights, leaked, flooded):
            began = asyncio.get_running_loop().time()
            await attack(running)
            print(f"{attack.__name__}: {asyncio.get_running_loop().time() - began:.1f} s")
            assert "text" in await running.json("ask", "ada", "are you there?"), attack.__name__
        assert await pids(running) == before, "nobody was restarted"
