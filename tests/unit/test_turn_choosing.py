"""Choosing safely (D1 to D3), chains (X3, D8), by rows."""

from __future__ import annotations

from typing import Any

import pytest

from swarm.agent.models.choice import escalate
from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.types import CHOICE, Candidate, ChoiceReply, ChoiceRequest
from swarm.components import Action, ActionOptions, Message
from swarm.errors import ModelError
from swarm.ids import new_id
from swarm.plugin import ModelHandler, Plugin
from swarm.records import Content
from swarm.testing import ScriptedModel, agent, say


async def echo(message: Message) -> str:
    """Says it back."""
    return message.text


class Selector:
    """Answers from a list; an exception in it is raised."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.asked: list[ChoiceRequest] = []

    async def choose(self, request: ChoiceRequest) -> ChoiceReply:
        self.asked.append(request)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        name, confidence = reply if isinstance(reply, tuple) else (reply, 1.0)
        return ChoiceReply(name=name, outcome="chosen" if name else "abstained", confidence=confidence)


def registry(**selectors: Selector) -> ModelRegistry:
    """`local` below 0 as the built-in one is, the others at 0."""
    models = ModelRegistry()
    for name, one in selectors.items():
        models.register(CHOICE, one.choose, name, -100 if name == "local" else 0)
    return models


TWO = ChoiceRequest(text="do it", candidates=(Candidate("ONE"), Candidate("TWO")))


@pytest.mark.parametrize(
    ("local", "model", "chosen", "by"),
    [
        (("ONE", 0.95), None, "ONE", "local"),  # sure: the model is not asked
        (("ONE", 0.6), "TWO", "TWO", "model"),
        (("ONE", 0.6), (None, 0.0), None, "model"),  # a better judge says none
        (("ONE", 0.6), ModelError("down"), "ONE", "local"),
        ((None, 0.0), "TWO", "TWO", "model"),
        ((None, 0.0), ModelError("down"), None, "local"),
        (ModelError("broken"), "TWO", "TWO", "model"),
    ],
)
async def test_d3_a_selector_that_abstains_fails_or_is_unsure_hands_on_to_the_next(
    local: Any, model: Any, chosen: str | None, by: str
) -> None:
    models = registry(local=Selector(local), model=Selector(model))
    reply, selector = await escalate(models, TWO)
    assert (reply.name, selector) == (chosen, by)


async def test_d3_when_no_selector_can_be_asked_the_message_is_answered_without_an_action() -> None:
    with pytest.raises(ModelError):
        await escalate(registry(model=Selector(ModelError("down"))), TWO)
    model = ScriptedModel(texts=["words"])
    async with agent(
        "Ada", Plugin("p", actions=[Action("A", echo), Action("B", echo)]), model.plugin()
    ) as runtime:
        result = await say(runtime, "anything")
    assert result.actions == ()
    assert result.response is not None
    assert result.response.metadata["choice"]["outcome"] == "failed"


async def test_d3_the_order_of_selectors_is_a_setting() -> None:
    models = registry(local=Selector(("ONE", 1.0)), model=Selector("TWO"))
    reply, selector = await escalate(models, TWO, selectors=("model",))
    assert (reply.name, selector) == ("TWO", "model")


@pytest.mark.parametrize(("second", "chosen"), [("TWO", "TWO"), ("STILL_NOT", None)])
async def test_d3_an_unknown_action_from_a_model_is_answered_with_the_valid_ones_once(
    second: str, chosen: str | None
) -> None:
    selector = Selector("ONE_AND_A_HALF", second)
    reply, _ = await escalate(registry(model=selector), TWO)
    assert reply.name == chosen
    assert len(selector.asked) == 2
    assert "The valid ones are: ONE, TWO" in selector.asked[1].context[-1].content
    assert reply.outcome == ("chosen" if chosen else "unresolved")


async def test_d3_always_asks_a_model_for_a_single_candidate_too() -> None:
    model = ScriptedModel(choices=[None], texts=["words"])
    character = {"name": "Ada", "bio": "x", "settings": {"choice": {"always": True}}}
    async with agent(character, Plugin("p", actions=[Action("ECHO", echo)]), model.plugin()) as runtime:
        result = await say(runtime, "hi")
    assert result.actions == ()


async def test_d2_without_a_candidate_no_model_is_asked_and_nothing_runs() -> None:
    async def never() -> bool:
        return False

    model = ScriptedModel(texts=["words"])
    plugin = Plugin("p", actions=[Action("A", echo, validate=never), Action("B", echo, validate=never)])
    async with agent("Ada", plugin, model.plugin()) as runtime:
        result = await say(runtime, "hi")
    assert result.actions == ()
    assert [type(one).__name__ for one in model.asked] == ["TextRequest"]


async def test_d3_the_choice_its_candidates_and_confidence_are_recorded() -> None:
    told: list[dict[str, Any]] = []
    model = ScriptedModel(choices=["TALLY"])
    plugin = Plugin("p", actions=[Action("COUNT", echo, similes=["TALLY"]), Action("ECHO", echo)])
    async with agent("Ada", plugin, model.plugin()) as runtime:
        runtime.events.on("choice:made", told.append)
        result = await say(runtime, "please")
        stored = (await runtime.store.get_memories(kind="message"))[-1]
    recorded = {
        "actions": ["COUNT"], "outcome": "chosen", "selector": "scripted", "confidence": 1.0,
        "candidates": ["COUNT", "ECHO"],
    }  # fmt: skip
    assert result.response is not None
    assert result.response.metadata["choice"] == recorded
    assert stored.content.metadata["choice"] == recorded
    assert (told[0]["chosen"], told[0]["selector"], told[0]["run_id"]) == (
        ("COUNT",),
        "scripted",
        result.run_id,
    )


def chain(*names: str, **fields: Any) -> tuple[list[str], Plugin]:
    ran: list[str] = []

    def step(name: str) -> Action:
        async def handler(options: ActionOptions) -> Any:
            """A step."""
            ran.append(f"{name} after {[one.text for one in options.previous]}")
            return {"success": False, "error": f"{name} broke"} if name.startswith("BAD") else name.lower()

        policy = fields.get(name)
        return Action(name, handler, on_failure=policy)

    return ran, Plugin("p", actions=[step(name) for name in names])


async def test_x3_a_plan_runs_in_order_and_each_step_is_told_what_the_earlier_ones_did() -> None:
    told: list[tuple[str, int, int]] = []
    ran, plugin = chain("A", "B", "C")
    async with agent("Ada", plugin, ScriptedModel(choices=[["C", "A"]]).plugin()) as runtime:
        for event in ("action:started", "action:ended"):
            runtime.events.on(event, lambda e: told.append((e["action"], e["step"], e["steps"])))
        result = await say(runtime, "do both")
    assert ran == ["C after []", "A after ['c']"]
    assert told == [("C", 0, 2), ("C", 0, 2), ("A", 1, 2), ("A", 1, 2)]
    assert result.response is not None
    assert result.response.text == "c\na"
    assert [one["action"] for one in result.response.metadata["steps"]] == ["C", "A"]


async def test_d8_a_failure_ends_the_plan_and_the_skipped_steps_are_told() -> None:
    skipped: list[str] = []
    ran, plugin = chain("BAD", "B")
    async with agent("Ada", plugin) as runtime:
        runtime.events.on("action:skipped", lambda e: skipped.append(f"{e['action']} because {e['because']}"))
        result = await say(runtime, data={"action": ["BAD", "B"]})
    assert ran == ["BAD after []"]
    assert skipped == ["B because BAD"]
    assert result.response is not None
    assert result.response.data == {"success": False, "error": "BAD broke"}


@pytest.mark.parametrize("of", ["action", "plugin"])
async def test_d8_a_plan_goes_on_where_the_action_or_its_plugin_says_so(of: str) -> None:
    ran, plugin = chain("BAD", "B", **({"BAD": "continue"} if of == "action" else {}))
    if of == "plugin":
        plugin.on_action_failure = "continue"
    async with agent("Ada", plugin) as runtime:
        result = await say(runtime, data={"action": ["BAD", "B"]})
    assert len(ran) == 2
    assert [one.success for one in result.actions] == [False, True]
    assert result.response is not None
    assert result.response.text == "BAD broke\nb"


async def test_x3_a_plan_with_an_unknown_name_runs_nothing() -> None:
    ran, plugin = chain("A", "B")
    model = ScriptedModel(choices=[["A", "DELETE_ALL"], ["A", "DELETE_ALL"]], texts=["words"])
    async with agent("Ada", plugin, model.plugin()) as runtime:
        result = await say(runtime, "do both")
    assert ran == []
    assert result.response is not None
    assert result.response.metadata["choice"]["outcome"] == "unresolved"


async def test_d1_a_plugins_choice_model_that_returns_nonsense_runs_nothing() -> None:
    async def nonsense(request: Any) -> Any:
        return {"name": "A"}

    bad = Plugin("bad", models=[ModelHandler("choice", nonsense, "bad", 100)])
    ran, plugin = chain("A", "B")
    async with agent("Ada", plugin, bad) as runtime:
        assert (await say(runtime, "hi")).status == "handled"
        assert runtime.metrics.failures["model choice"] == 1
    assert ran == []


async def test_a_task_whose_goal_is_an_actions_name_once_ran_another_action_when_its_input_was_wrong() -> (
    None
):
    spent: list[float] = []
    plugin = Plugin("purse")

    @plugin.action()
    async def spend(*, amount: float) -> str:
        "Writes an expense down."
        spent.append(amount)
        return "noted"

    @plugin.action()
    async def balance() -> str:
        "Says how much was spent."
        return f"{sum(spent):g}"

    def task(goal: str, given: dict[str, Any]) -> Message:
        id = new_id()
        content = Content(text=goal, data={"task": id, "input": given})
        return Message(
            id=id, sender="boss", room=f"task:{id}", kind="task", content=content, task=id, attempt=1
        )

    async with agent("Ada", plugin) as runtime:
        wrong = await runtime.process_message(task("SPEND", {"amount": "lots"}))
        assert [one.reason for one in wrong.actions] == ["bad_parameters"]
        right = await runtime.process_message(task("spend", {"amount": 3}))
        assert [one.text for one in right.actions] == ["noted"]
        other = await runtime.process_message(task("say the balance", {}))
        assert [one.text for one in other.actions] == ["3"]
