"""The work of P5: one turn with everything on, and a model that only answers."""

from __future__ import annotations

from typing import Any, Final

from swarm.components import Action, Evaluator, Provider
from swarm.plugin import Plugin
from swarm.testing import ScriptedModel

CHARACTER: Final = {"name": "Bench", "bio": "Is measured."}


class Choosing(ScriptedModel):
    """Always the same action and the same words: the cost of the turn, not of a model."""

    async def choose(self, request: Any) -> Any:
        self._choices = ["ACT_3"]
        self.asked.clear()
        return await super().choose(request)


def plugin() -> Plugin:
    async def provide() -> dict[str, Any]:
        return {"text": "It is a fine day.", "data": {"fine": True}}

    async def act(message: Any) -> str:
        """Does what it is asked."""
        return f"done: {message.text}"

    async def evaluate(response: Any) -> int:
        return len(response.text)

    return Plugin(
        "bench",
        providers=[Provider(f"PROVIDER_{n}", provide) for n in range(3)],
        actions=[Action(f"ACT_{n}", act) for n in range(5)],
        evaluators=[Evaluator(f"EVALUATOR_{n}", evaluate) for n in range(2)],
    )
