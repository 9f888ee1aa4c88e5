"""docs/protocol.md is enough: an instance made of nats-py, msgspec and asyncpg alone joins a swarm."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from bus.credentials import Authority
from swarm.ids import string_to_uuid
from swarm.stores.postgres import agent_url
from swarm.testing import eventually
from tests.running import Running, running_swarm

TOML = """
[swarm]
name = "foreign"

[agents.ada]
character = "ada.json"
permissions = { create_children = true, control_children = true }

[agents.bob]
character = "bob.json"
"""
CHARACTERS = {f"{name}.json": f'{{"name": "{name}", "bio": "Is in a test."}}' for name in ("ada", "bob")}
INSTANCE = "f-000001"


class Foreigner:
    """The page, followed word by word."""

    def __init__(self, connection: Client, name: str) -> None:
        self._nats = connection
        self._name = name
        self.came: asyncio.Queue[tuple[dict[str, Any], str]] = asyncio.Queue()

    async def listen(self) -> None:
        async def take(message: Msg) -> None:
            self.came.put_nowait((msgspec.msgpack.decode(message.data), message.reply))

        await self._nats.subscribe(f"foreign.down.{self._name}.{INSTANCE}", cb=take)
        await self._nats.flush()

    def envelope(
        self, kind: str, body: Any, to: str = "coordinator", room: str = "control", **more: Any
    ) -> bytes:
        fields = {"v": 1, "id": uuid.uuid4().hex, "sender": self._name, "to": to, "room": room, "kind": kind}
        return msgspec.msgpack.encode(fields | {"body": body} | more)

    async def ask(self, verb: str, data: bytes) -> dict[str, Any]:
        reply = await self._nats.request(f"foreign.up.{self._name}.{verb}", data, timeout=10)
        decoded: dict[str, Any] = msgspec.msgpack.decode(reply.data)
        return decoded

    async def say(self, verb: str, **body: Any) -> None:
        kind = {"type": verb, "instance": INSTANCE}
        await self._nats.publish(f"foreign.up.{self._name}.{verb}", self.envelope("control", kind | body))

    async def next(self) -> tuple[dict[str, Any], str]:
        async with asyncio.timeout(10):
            return await self.came.get()

    async def answer(self, to: str, data: bytes) -> None:
        await self._nats.publish(to, data)
        await self._nats.flush()


@asynccontextmanager
async def foreigner(running: Running, name: str, folder: Path) -> AsyncIterator[Foreigner]:
    file = folder / f"{name}.creds"
    Authority.load(running.project.authority_file).mint("agent", name).save(file)
    connection = await nats.connect(
        running.project.require_state().bus_url, user_credentials=str(file), inbox_prefix=f"_INBOX.{name}"
    )
    try:
        yield Foreigner(connection, name)
    finally:
        await connection.close()


async def test_an_instance_without_our_code_says_hello_handles_answers_tells_does_a_task_and_leaves(
    tmp_path: Path,
) -> None:
    async with running_swarm(tmp_path / "p", TOML, CHARACTERS) as running:
        await running.cli("scale", "ada", "0")
        told = await running.json("tell", "ada", "while you were away")
        async with foreigner(running, "ada", tmp_path) as ada:
            await ada.listen()
            hello = {"type": "hello", "instance": INSTANCE, "capacity": 4}
            welcome = await ada.ask("hello", ada.envelope("control", hello))
            assert (welcome["kind"], welcome["body"]["type"]) == ("control", "welcome")

            backlog, _ = await ada.next()
            assert (backlog["id"], backlog["kind"], backlog["sender"]) == (told["id"], "tell", "operator")
            assert backlog["body"]["text"] == "while you were away"
            outgoing = {"to": "bob", "room": "r", "kind": "tell", "content": {"text": "hi"}}
            outgoing["id"] = str(uuid.uuid4())
            turn = {
                "delivery": backlog["delivery"],
                "attempt": backlog["attempt"],
                "instance": INSTANCE,
                "memories": [],
                "outgoing": [outgoing],
            }
            assert await _commit(running, "ada", turn) == ("committed", ["bob"])
            assert (await _commit(running, "ada", turn))[0] == "duplicate"
            await ada.say("bell", done=[backlog["delivery"]], to=["bob"])

            asking = asyncio.create_task(running.json("ask", "ada", "are you there?"))  # owned: awaited below
            asked, reply = await ada.next()
            assert (asked["kind"], asked.get("delivery")) == ("ask", None)
            said = ada.envelope(
                "reply", {"text": "I am"}, asked["sender"], asked["room"], in_reply_to=asked["id"]
            )
            await ada.answer(reply, said)
            assert (await asking)["text"] == "I am"

            id = str(uuid.uuid4())
            receipt = await ada.ask("tell", ada.envelope("tell", {"text": "more"}, "bob", "r", id=id))
            assert (receipt["kind"], receipt["body"]) == ("reply", {"id": id, "recipients": ["bob"]})
            forged = await ada.ask("tell", ada.envelope("tell", {"text": "x"}, "bob", "r", sender="bob"))
            assert (forged["kind"], forged["body"]["reason"]) == ("error", "forged_sender")

            await _do_a_task(running, ada)
            await _have_a_child(ada)

            await ada.say("goodbye")
            await eventually(lambda: _is_gone(running))
        shown = await running.json("message", "show", told["id"])
        assert [delivery["state"] for delivery in shown["deliveries"]] == ["handled"]


async def _do_a_task(running: Running, ada: Foreigner) -> None:
    """ "Working on a task": it comes, progress is seen, a stale attempt is not, the outcome is written once."""
    given = await running.json("delegate", "ada", "count them", "--input", '{"what": "sheep"}')
    came, _ = await ada.next()
    assert (came["kind"], came["id"], came["room"]) == ("task", given["id"], f"task:{given['id']}")
    assert came["body"]["text"] == "count them"
    assert came["body"]["data"]["task"] == given["id"] and came["body"]["data"]["input"] == {"what": "sheep"}

    assert await _report(running, given["id"], came["attempt"], 50, "half of them")
    shown = await running.json("task", "show", given["id"])
    assert (shown["state"], shown["progress"], shown["note"]) == ("working", 50.0, "half of them")
    assert not await _report(running, given["id"], came["attempt"] + 1, 99, "of another attempt")

    result = {"text": "three", "data": {"count": 3}}
    turn = {
        "delivery": came["delivery"], "attempt": came["attempt"], "instance": INSTANCE, "memories": [],
        "outgoing": [], "outcome": {"task": given["id"], "state": "completed", "result": result},
    }  # fmt: skip
    assert (await _commit(running, "ada", turn))[0] == "committed"
    assert (await _commit(running, "ada", turn))[0] == "duplicate"
    await ada.say("bell", done=[came["delivery"]])
    shown = await running.json("task", "show", given["id"])
    assert (shown["state"], shown["result"]["text"], shown["result"]["data"]) == (
        "completed", "three", {"count": 3},
    )  # fmt: skip
    assert not await _report(running, given["id"], came["attempt"], 10, "after the end")


async def _have_a_child(ada: Foreigner) -> None:
    """ "Children at run time": made, found again, refused what it may not, commanded and removed."""
    child = {
        "name": "eve", "id": string_to_uuid("eve"), "version": "1",
        "character": {"name": "eve", "id": string_to_uuid("eve"), "bio": "Was made over the wire."},
    }  # fmt: skip

    async def say(**body: Any) -> tuple[str, dict[str, Any]]:
        said = await ada.ask(body["type"], ada.envelope("control", {"wait": 8.0} | body))
        return said["kind"], said["body"]

    kind, born = await say(type="spawn", child=child)
    assert (kind, born["agent"], born["parent"], born["created"], born["ready"]) == (
        "reply", "eve", "ada", True, True,
    )  # fmt: skip
    assert (await say(type="spawn", child=child))[1]["created"] is False
    _, error = await say(type="spawn", child=child | {"version": "2"})
    assert (error["code"], error["reason"]) == ("refused", "id_taken")
    _, error = await say(type="child", child="bob", action="stop")
    assert error["text"] == "No authority over this agent"
    _, error = await say(type="child", child="nobody", action="stop")
    assert error["text"] == "Child agent nobody not found"
    assert (await say(type="child", child="eve", action="remove"))[1]["stopped"] is True


async def _is_gone(running: Running) -> bool:
    return all(row["instance"] != INSTANCE for row in await running.json("ps", "-a"))


async def _commit(running: Running, agent: str, turn: dict[str, Any]) -> tuple[str, list[str]]:
    """The statement of the page."""
    async with _database(running, agent) as connection:
        given = msgspec.json.encode(turn).decode()
        row = await connection.fetchrow("select status, recipients, dead from commit_turn($1::jsonb)", given)
        assert row is not None
        return row["status"], list(row["recipients"])


async def _report(running: Running, task: str, attempt: int, percent: int, note: str) -> bool:
    """The statement of the page: whether there was a row."""
    async with _database(running, "ada") as connection:
        statement = "update tasks set progress = $3, note = $4 where id = $1 and attempts = $2 returning id"
        return await connection.fetchval(statement, task, attempt, percent, note) is not None


@asynccontextmanager
async def _database(running: Running, agent: str) -> AsyncIterator[asyncpg.Connection[Any]]:
    """Logged in with the agent's own database role."""
    store = (running.project.home / "secrets" / "store_url").read_text().strip()
    password = running.project.agent_password(running.swarm, agent)
    url = agent_url(store, running.swarm, string_to_uuid(agent), password)
    connection = await asyncpg.connect(url, server_settings={"search_path": '"foreign"'})
    try:
        yield connection
    finally:
        await connection.close()
