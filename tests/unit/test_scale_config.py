"""What the swarm file says about how many of an agent run."""

from __future__ import annotations

import pytest

from swarm.config import SwarmConfig, parse_config
from swarm.errors import ConfigError
from swarm.scaling import ScalePolicy


def parse(settings: str) -> SwarmConfig:
    return parse_config(f'[swarm]\nname = "s"\n[agents.a]\ncharacter = "agents/a"\n{settings}\n')


def test_g11_a_policy_begins_where_the_file_says_or_at_its_least() -> None:
    config = parse("scale = { min = 2, max = 5, queue_seconds = 1.5 }\nsleep_after = 300")
    section = config.agents["a"]
    assert section.scale is not None
    assert section.scale.policy() == ScalePolicy(
        min=2, max=5, queue_seconds=1.5, in_flight=8, idle_seconds=30.0
    )
    assert (config.replicas_of("a"), section.sleep_after) == (2, 300.0)
    assert parse("scale = { max = 5 }\nreplicas = 3").replicas_of("a") == 3
    assert parse("").replicas_of("a") == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("scale = { min = 3, max = 2 }", "min must not be above max"),
        ("scale = { max = 3 }\nreplicas = 4", r"outside of what scale allows \(1 to 3\)"),
        ("scale = { max = 3, queue_second = 1 }", "did you mean queue_seconds"),
        ("scale = { min = 1 }", "agents.a.scale.max is missing"),
        ("sleep_after = 0", "agents.a.sleep_after"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_what_is_wrong(settings: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parse(settings)
