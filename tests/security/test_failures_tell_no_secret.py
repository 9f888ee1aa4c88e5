"""An exception may quote what its action was given: what is stored and answered of it has no secret."""

from __future__ import annotations

import pytest

from swarm import Action, AgentRuntime, Plugin
from swarm.redaction import REDACTED, Redaction
from swarm.testing import agent, say

CHARACTER = {
    "name": "Ada",
    "bio": "Is in a test.",
    "secrets": {"VAULT": "planted-in-secrets"},
    "settings": {"API_KEY": "planted-in-settings", "secrets": {"INNER": "planted-in-settings-secrets"}},
}
NAMES = ("VAULT", "API_KEY", "INNER", "RUN_TOKEN")


async def leak(runtime: AgentRuntime) -> None:
    known = [runtime.get_setting(name) for name in NAMES]
    assert all(known)
    raise ValueError(f"crashed with {known}")


async def test_an_actions_failure_is_stored_and_answered_without_the_secrets_it_quotes() -> None:
    plugin = Plugin("leaking", actions=[Action("LEAK", leak)])
    async with agent(CHARACTER, plugin, settings={"RUN_TOKEN": "planted-in-the-run"}) as ada:
        result = await say(ada, "leak: now")
        memories = await ada.adapter.get_memories()
    told = repr(result.actions[0]) + repr(memories)
    assert "crashed with" in told and told.count(REDACTED) >= len(NAMES)
    assert "planted" not in told


@pytest.mark.parametrize("line", ["planted-inside", "a planted-inside b"])
def test_what_stands_under_secrets_in_the_settings_is_hidden(line: str) -> None:
    redaction = Redaction()
    redaction.hide_settings({"secrets": {"anything": "planted-inside"}})
    assert "planted" not in redaction(line)
