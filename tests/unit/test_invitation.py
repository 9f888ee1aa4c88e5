"""Invitations: what the link holds, for whom it is good, and for how long; what the agents' key cannot do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from bus.agent_keys import AgentKeys
from bus.credentials import Authority, Credentials
from bus.errors import Refused
from bus.sealing import new_key, seal, unseal
from deploy.checkout import Checkout
from deploy.cut_off import CutOff
from deploy.invitation import Invitation, Invitations
from swarm.character import load_character
from swarm.errors import UsageError
from swarm.project import Project
from swarm.protocol import Placement
from swarm.testing import eventually


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path / "swarm.toml")
    project.prepare()
    return project


def invite(project: Project, authority: Authority, node: str = "node-2", hours: float = 1.0) -> Invitation:
    return Invitations(project).make(
        authority, node, bus_url="nats://h:1", store_url="postgresql://h/d", labels=("gpu",), hours=hours
    )


def test_a_link_comes_back_as_it_was_and_ends_with_its_credential(project: Project, tmp_path: Path) -> None:
    given = invite(project, Authority.new("t"))
    (tmp_path / "link").write_text(given.to_url() + "\n")
    assert Invitation.read(given.to_url()) == Invitation.read(str(tmp_path / "link")) == given
    expires = Credentials.from_text(given.credentials).expires
    assert expires is not None and abs(expires - given.expires_at) < 2
    assert given.secret not in repr(given) and "SU" not in repr(given)


def test_a_link_that_is_over_cut_short_or_none_is_a_sentence(project: Project) -> None:
    authority = Authority.new("t")
    with pytest.raises(Refused, match="over"):
        Invitation.read(invite(project, authority, hours=-1).to_url())
    for wrong in ("swarm://t/node-2", invite(project, authority).to_url()[:-9], "no-such-file"):
        with pytest.raises(UsageError):
            Invitation.read(wrong)
    with pytest.raises(UsageError, match="node-2"):
        invite(project, authority, "node")
    with pytest.raises(UsageError, match="node-"):
        invite(project, authority, "ada")


def test_an_invitation_is_good_for_one_machine_until_it_is_over(project: Project) -> None:
    authority, invitations = Authority.new("t"), Invitations(project)
    invite(project, authority)
    assert invitations.take("node-2", "a").labels == ("gpu",)
    assert invitations.take("node-2", "a").machine == "a"  # its answer was lost: it may ask again
    with pytest.raises(Refused, match="another machine"):
        invitations.take("node-2", "b")
    invite(project, authority)  # again: replaces it
    assert invitations.take("node-2", "b").machine == "b"
    with pytest.raises(Refused, match="no invitation"):
        invitations.take("node-3", "b")
    invite(project, authority, "node-4", hours=-1)
    with pytest.raises(Refused, match="over"):
        invitations.take("node-4", "b")
    assert invitations.next_name() == "node-3"


def test_the_keys_for_agents_name_nobody_else() -> None:
    keys = AgentKeys.from_text(AgentKeys.of(Authority.new("t")).to_text())
    assert keys.mint("ada").name == "ada"
    for name in ("operator", "coordinator", "node-3", "*"):
        with pytest.raises(Refused):
            keys.mint(name)
    with pytest.raises(Refused, match="keys for agents"):
        AgentKeys.from_text("{}")


def test_what_is_sealed_opens_with_its_own_key_only() -> None:
    key = new_key()
    sealed = seal(key, "a secret")
    assert unseal(key, sealed) == "a secret" and "secret" not in sealed
    for other, text in ((new_key(), sealed), (key, sealed[:-8] + "AAAAAAA="), (key, "x")):
        with pytest.raises(Refused):
            unseal(other, text)


async def test_a_checkout_that_lacks_a_folder_or_has_another_version_says_so(tmp_path: Path) -> None:
    checkout = Checkout(tmp_path)
    placement = Placement(agent="ada", agent_id="1", slot=1, source="ada.json", version="0")
    assert "is not on this machine" in await checkout.why_not(placement)
    (tmp_path / "ada.json").write_text('{"name": "Ada", "bio": "Talks."}')
    character = await load_character(tmp_path / "ada.json")
    why = await checkout.why_not(placement)
    assert f"has version {character.version} on this machine and the swarm runs 0" in why
    assert await checkout.why_not(msgspec.structs.replace(placement, version=character.version)) == ""
    for source in ("https://example.org/ada.json", "env:ADA", "agent:bob"):
        assert await checkout.why_not(msgspec.structs.replace(placement, source=source)) == ""


async def test_a_node_without_the_bus_ends_what_it_runs_unless_it_is_alone() -> None:
    connected, said, asked = False, [], 0

    def is_connected() -> bool:
        nonlocal asked
        asked += 1
        return connected

    cut_off = CutOff(is_connected, seconds=0.01)

    def end_all() -> int:
        said.append("ended")
        return 1

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(cut_off.run(end_all, lambda: said.append("back")))
        await eventually(lambda: asked >= 3)
        assert said == []
        cut_off.others = True
        await eventually(lambda: said == ["ended"])
        connected = True
        await eventually(lambda: said == ["ended", "back"])
        watching.cancel()
