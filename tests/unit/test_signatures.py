"""Typed parameters from a handler's own arguments, and what its signature may ask for (D5, issue 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import pytest

from swarm.components import Action, Provider
from swarm.errors import PluginError
from swarm.plugin import Plugin
from swarm.testing import agent, say

if TYPE_CHECKING:
    from swarm.agent.runtime import AgentRuntime

Times = Annotated[int, msgspec.Meta(ge=1, le=3)]


async def greet(
    message: Any,
    runtime: AgentRuntime,
    *,
    name: str,
    times: Times = 1,
    also: list[str] = [],  # noqa: B006
) -> str:
    """Greets by name."""
    also.append("seen")
    return f"{name} " * times + f"{len(also)} for {message.sender}"


async def test_keyword_only_arguments_are_the_parameters_checked_by_their_types() -> None:
    action = Action("GREET", greet)
    assert action.description == "Greets by name."
    async with agent("Ada", Plugin("p", actions=[action])) as runtime:
        for _ in range(2):  # a default is nobody's to change
            good = await say(runtime, "greet:", data={"name": "Bo", "times": 2})
            assert good.response is not None
            assert good.response.text == "Bo Bo 1 for tester"
        for wrong in ({"name": 7}, {"name": "Bo", "times": 4}, {"name": "Bo", "times": "two"}, {}):
            bad = await say(runtime, "greet:", data=wrong)
            assert bad.actions[0].reason == "bad_parameters", wrong
        talk = await say(runtime, "hello there")
        assert talk.actions == ()


def test_parameters_are_declared_once() -> None:
    with pytest.raises(PluginError, match="declares parameters twice"):
        Action("GREET", greet, parameters=msgspec.Struct)


def test_a_type_that_cannot_be_resolved_or_checked_is_named() -> None:
    async def hidden(*, who: Nobody) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Unknown."""

    with pytest.raises(PluginError, match=r"action HIDDEN cannot be read: name 'Nobody' is not defined"):
        Action("HIDDEN", hidden)

    async def odd(*, who: PluginError) -> None:
        """Not a type of data."""

    with pytest.raises(PluginError, match="action ODD cannot be checked"):
        Action("ODD", odd)


def test_a_handler_that_is_not_async_or_asks_for_the_unknown_is_refused() -> None:
    with pytest.raises(PluginError, match="must be an `async def`"):
        Action("X", lambda: None)  # type: ignore[arg-type,return-value]

    async def misspelt(mesage: Any) -> None:
        """Misspelt."""

    with pytest.raises(PluginError, match=r"asks for 'mesage'.*did you mean message"):
        Provider("X", misspelt)
