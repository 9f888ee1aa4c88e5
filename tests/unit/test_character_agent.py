"""An agent is a character with a state (A15 to A17)."""

from __future__ import annotations

from swarm.character import Agent, AgentStatus, Character, create_agent

CHARACTER = Character(
    name="Ada",
    bio=["x"],
    settings={"API_KEY": "k", "n": [1]},
    secrets={"S": "v"},
    status="odd",
    custom={"kept": [1]},
)


def test_a_new_agent_is_enabled_inactive_and_both_its_times_are_now() -> None:
    agent = create_agent(CHARACTER, clock=lambda: 1_700_000_000.1234)
    assert isinstance(agent, Agent)
    assert (agent.enabled, agent.status) == (True, AgentStatus.INACTIVE)
    assert agent.created_at == agent.updated_at == 1_700_000_000_123
    assert agent.public() == CHARACTER.public() | {
        "enabled": True, "status": "inactive", "createdAt": 1_700_000_000_123, "updatedAt": 1_700_000_000_123,
    }  # fmt: skip
    assert agent.unsealed()["settings"]["API_KEY"] == "k"
    assert agent.secrets == CHARACTER.secrets
    assert agent.version == CHARACTER.version


def test_creating_is_deterministic_but_for_the_clock() -> None:
    assert create_agent(CHARACTER, clock=lambda: 1.0) == create_agent(CHARACTER, clock=lambda: 1.0)
    assert create_agent(CHARACTER, clock=lambda: 1.0) != create_agent(CHARACTER, clock=lambda: 2.0)


def test_the_agent_shares_nothing_with_its_character() -> None:
    agent = create_agent(CHARACTER)
    agent.settings["n"].append(2)
    agent.topics.append("t")
    agent.style["all"].append("s")
    assert CHARACTER.settings["n"] == [1]
    assert CHARACTER.topics == CHARACTER.style["all"] == []


def test_a_change_of_status_or_character_moves_updated_at_and_only_forwards() -> None:
    agent = create_agent(CHARACTER, clock=lambda: 10.0)
    active = agent.with_status(AgentStatus.ACTIVE, clock=lambda: 20.0)
    assert (active.status, active.created_at, active.updated_at) == (AgentStatus.ACTIVE, 10_000, 20_000)
    assert (agent.status, agent.updated_at) == (AgentStatus.INACTIVE, 10_000)
    assert active.unsealed()["settings"]["API_KEY"] == "k"
    other = active.with_character(Character(name="Bob", bio="y"), clock=lambda: 5.0)
    assert (other.name, other.status, other.created_at, other.updated_at) == ("Bob", "active", 10_000, 20_000)


def test_the_words_in_the_database() -> None:
    assert [status.value for status in AgentStatus] == ["active", "inactive"]
