"""An agent's own credentials, in the hands of a client that uses no code of ours, on a real server.

Each right that an agent must not have is tried: the server must say so, and nothing must arrive.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg

from bus.buses.nats import connect
from bus.credentials import Authority, Credentials
from bus.errors import Disconnected, Refused
from bus.jwt import Key, read_claims, sign_claims
from bus.permissions import Role
from swarm.testing import eventually
from tests.servers import NatsServer


class Raw:
    """A stock nats-py client that remembers what the server refused."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.closed = asyncio.Event()
        self.client = Client()

    @classmethod
    async def connect(cls, url: str, credentials: Credentials) -> Raw:
        raw = cls()
        await raw.client.connect(
            url,
            user_credentials=RawCredentials(credentials.to_text()),
            error_cb=raw._error,
            closed_cb=raw._closed,
            allow_reconnect=False,
        )
        return raw

    async def _error(self, error: Exception) -> None:
        self.errors.append(str(error).lower())

    async def _closed(self) -> None:
        self.closed.set()

    async def listen(self, pattern: str) -> list[Msg]:
        got: list[Msg] = []

        async def keep(message: Msg) -> None:
            got.append(message)

        await self.client.subscribe(pattern, cb=keep)
        await self.settle()
        return got

    async def settle(self) -> None:
        """Everything sent so far was worked through by the server."""
        await asyncio.sleep(0.01)  # nats-py's flush overtakes what its flusher has not written yet
        await self.client.flush()


class Swarm:
    def __init__(self, server: NatsServer, authority: Authority) -> None:
        self.server = server
        self.authority = authority
        self._clients: list[Raw] = []

    async def raw(self, role: Role, name: str) -> Raw:
        raw = await Raw.connect(self.server.url, self.authority.mint(role, name))
        self._clients.append(raw)
        return raw

    async def close(self) -> None:
        for raw in self._clients:
            await raw.client.close()


@pytest.fixture
async def swarm(tmp_path: Path) -> AsyncIterator[Swarm]:
    server, authority = NatsServer(tmp_path), Authority.new("t")
    server.start(authority.server_config(port=server.port))
    made = Swarm(server, authority)
    try:
        yield made
        await made.close()
    finally:
        server.kill()


FOREIGN_SUBJECTS = [
    "t.up.other.tell",
    "t.up.other.ask",
    "t.up.other.spawn",
    "t.up.other.child",
    "t.ctl.operator.spawn",
    "t.node.node.up.login",
    "t.up.coordinator.tell",
    "t.up.agent",
    "t.down.other.1",
    "t.down.agent.1",
    "t.all",
    "t.ctl.agent.stop",
    "t.ctl.operator-x.stop",
    "t.node.node-a.up.hello",
    "t.node.node-a.down",
    "_INBOX.other.1",
    "_INBOX.agent.1",
    "_INBOX.coordinator.1",
    "other_swarm.up.agent.tell",
    "$SYS.REQ.SERVER.PING",
    "$JS.API.INFO",
]


@pytest.mark.parametrize("subject", FOREIGN_SUBJECTS)
async def test_an_agent_publishes_nowhere_but_under_its_own_name(swarm: Swarm, subject: str) -> None:
    agent, coordinator, other = [
        await swarm.raw("agent", "agent"),
        await swarm.raw("coordinator", "coordinator"),
        await swarm.raw("agent", "other"),
    ]
    arrived = [
        await coordinator.listen(pattern)
        for pattern in ("t.up.>", "t.ctl.>", "t.node.*.up.>", "_INBOX.coordinator.>")
    ]
    arrived += [await other.listen(pattern) for pattern in ("t.down.other.>", "_INBOX.other.>", "t.all")]
    arrived += [await agent.listen(pattern) for pattern in ("t.down.agent.>", "_INBOX.agent.>")]
    await agent.client.publish(subject, b"forged")
    await eventually(lambda: agent.errors)
    assert f'permissions violation for publish to "{subject.lower()}"' in agent.errors[0]
    await agent.client.publish("t.up.agent.tell", b"mine")
    await eventually(lambda: arrived[0])
    await other.settle()
    assert [message.data for got in arrived for message in got] == [b"mine"]


FOREIGN_PATTERNS = [
    ">",
    "*.>",
    "t.>",
    "t.up.>",
    "t.up.agent.tell",
    "t.up.other.>",
    "t.down.>",
    "t.down.*.1",
    "t.down.other.>",
    "t.ctl.>",
    "t.node.>",
    "t.node.agent.down",
    "_INBOX.>",
    "_INBOX.*.1",
    "_INBOX.other.>",
    "_INBOX.coordinator.>",
    "_INBOX.operator-x.>",
    "$SYS.>",
]


@pytest.mark.parametrize("pattern", FOREIGN_PATTERNS)
async def test_an_agent_hears_nothing_but_its_own(swarm: Swarm, pattern: str) -> None:
    agent, coordinator = await swarm.raw("agent", "agent"), await swarm.raw("coordinator", "coordinator")
    stolen = await agent.listen(pattern)
    await eventually(lambda: agent.errors)
    assert f'permissions violation for subscription to "{pattern.lower()}"' in agent.errors[0]
    own = await agent.listen("t.down.agent.>")
    other = await swarm.raw("agent", "other")
    await other.client.publish("t.up.other.tell", b"secret")
    for subject in ("t.down.other.1", "_INBOX.other.1", "_INBOX.operator-x.1", "t.all", "t.node.agent.down"):
        await coordinator.client.publish(subject, b"secret")
    await coordinator.client.publish("t.down.agent.1", b"yours")
    await eventually(lambda: own)
    await agent.settle()
    assert not stolen


async def test_an_agent_answers_the_reply_address_of_a_message_it_received_and_no_other(swarm: Swarm) -> None:
    agent, other = await swarm.raw("agent", "agent"), await swarm.raw("agent", "other")
    coordinator = await swarm.raw("coordinator", "coordinator")
    mine, inbox = await agent.listen("t.down.agent.>"), await other.listen("_INBOX.other.>")
    await coordinator.client.publish("t.down.agent.1", b"question", reply="_INBOX.other.7")
    await eventually(lambda: mine)
    for number in range(200):  # a stream of chunks is many answers
        await agent.client.publish("_INBOX.other.7", str(number).encode())
    await eventually(lambda: len(inbox) == 200)
    await agent.client.publish("_INBOX.other.8", b"unasked")
    await eventually(lambda: agent.errors)
    await other.settle()
    assert len(inbox) == 200


async def test_a_wildcard_as_reply_address_opens_no_inbox(swarm: Swarm) -> None:
    agent, other = await swarm.raw("agent", "agent"), await swarm.raw("agent", "other")
    coordinator = await swarm.raw("coordinator", "coordinator")
    mine, inbox = await agent.listen("t.down.agent.>"), await other.listen("_INBOX.other.>")
    await coordinator.client.publish("t.down.agent.1", b"question", reply="_INBOX.other.>")
    await eventually(lambda: mine)
    await agent.client.publish("_INBOX.other.9", b"unasked")
    await eventually(lambda: agent.errors)
    await other.settle()
    assert not inbox


async def test_operators_and_nodes_have_their_own_door_only(swarm: Swarm) -> None:
    coordinator = await swarm.raw("coordinator", "coordinator")
    up, ctl = await coordinator.listen("t.up.>"), await coordinator.listen("t.ctl.>")
    operator, node = await swarm.raw("operator", "operator-x"), await swarm.raw("node", "node-a")
    for subject in (
        "t.ctl.operator-y.stop",
        "t.up.operator-x.tell",
        "t.all",
        "t.down.agent.1",
        "t.node.node-a.down",
    ):
        await operator.client.publish(subject, b"forged")
        await node.client.publish(subject, b"forged")
    await eventually(lambda: len(operator.errors) == len(node.errors) == 5)
    for pattern in ("t.up.>", "t.ctl.>", "_INBOX.agent.>", "t.down.>", "t.node.node-b.down"):
        await operator.listen(pattern)
        await node.listen(pattern)
    await eventually(lambda: len(operator.errors) == len(node.errors) == 10)
    await operator.client.publish("t.ctl.operator-x.stop", b"mine")
    await eventually(lambda: ctl)
    assert not up and [message.data for message in ctl] == [b"mine"]


async def test_an_agent_minted_while_the_server_runs_connects_and_speaks(swarm: Swarm) -> None:
    coordinator = await swarm.raw("coordinator", "coordinator")
    up = await coordinator.listen("t.up.>")
    for number in range(5):
        newcomer = await swarm.raw("agent", f"newcomer{number}")
        await newcomer.client.publish(f"t.up.newcomer{number}.hello", b"hi")
    await eventually(lambda: len(up) == 5)


async def test_credentials_outlive_a_restart_of_the_server_with_the_same_keys(
    swarm: Swarm, tmp_path: Path
) -> None:
    credentials = swarm.authority.mint("agent", "agent")
    swarm.authority.save(tmp_path / "authority.json")
    swarm.server.kill()
    swarm.server.start(Authority.load(tmp_path / "authority.json").server_config(port=swarm.server.port))
    bus = await connect(swarm.server.url, credentials)
    await bus.close()


async def test_credentials_that_expire_end_the_connection_for_good(swarm: Swarm) -> None:
    credentials = swarm.authority.mint("agent", "brief", ttl=2)
    bus = await connect(swarm.server.url, credentials)
    async with asyncio.timeout(20):
        await bus.wait_closed()
    with pytest.raises(Disconnected):
        await bus.publish("t.up.brief.tell", None)  # type: ignore[arg-type]
    with pytest.raises(Refused, match="expired"):
        await connect(swarm.server.url, credentials)


async def test_expired_credentials_are_refused(swarm: Swarm) -> None:
    with pytest.raises(Refused):
        await connect(swarm.server.url, swarm.authority.mint("agent", "late", ttl=-5))


async def test_without_credentials_nobody_connects(swarm: Swarm) -> None:
    with pytest.raises(Refused):
        await connect(swarm.server.url, "agent", deadline=5)


async def test_credentials_that_bring_rights_of_their_own_are_refused(swarm: Swarm) -> None:
    """Even who stole the agents' signing key can make no more than an agent."""
    authority = swarm.authority
    user = Key.new("user")
    nats_claims = {
        "issuer_account": authority._keys["account"].public,
        "type": "user",
        "version": 2,
        "pub": {"allow": [">"]},
        "sub": {"allow": [">"]},
        "subs": -1,
        "data": -1,
        "payload": -1,
    }
    jwt = sign_claims(authority._keys["role:agent"], subject=user.public, name="agent", nats=nats_claims)
    with pytest.raises(Refused):
        await connect(swarm.server.url, Credentials("agent", jwt, user.seed))


async def test_a_changed_name_breaks_the_signature(swarm: Swarm) -> None:
    credentials = swarm.authority.mint("agent", "agent")
    head, _, signature = credentials.jwt.split(".")
    claims = read_claims(credentials.jwt) | {"name": "coordinator"}
    body = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(Refused):
        await connect(swarm.server.url, Credentials("agent", f"{head}.{body}.{signature}", credentials.seed))


async def test_somebody_elses_jwt_is_worth_nothing_without_its_seed(swarm: Swarm) -> None:
    victim, thief = swarm.authority.mint("agent", "victim"), swarm.authority.mint("agent", "thief")
    with pytest.raises(Refused):
        await connect(swarm.server.url, Credentials("victim", victim.jwt, thief.seed))


async def test_the_configuration_of_the_server_holds_no_secret(swarm: Swarm, tmp_path: Path) -> None:
    config = swarm.authority.server_config(port=1)
    for key in swarm.authority._keys.values():
        assert key.seed not in config
    started = time.monotonic()
    for number in range(50):
        swarm.authority.mint("agent", f"a{number}")
    assert time.monotonic() - started < 5
