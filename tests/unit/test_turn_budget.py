"""What a turn may know and what it costs: D14, D15, X5."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from swarm.agent.metrics import report
from swarm.agent.models.registry import ModelCall
from swarm.agent.models.types import TextReply, TextRequest, Usage
from swarm.agent.spending import MOST_MODELS, MOST_TASKS, Spending, Spent, on_account
from swarm.components import Action, Message, Provider
from swarm.plugin import ModelHandler, Plugin
from swarm.records import Content
from swarm.testing import agent, others_run, say


def looker(seen: list[Any]) -> Action:
    async def look(state: Any) -> str:
        """Looks."""
        seen.append(state)
        return "seen"

    return Action("LOOK", look)


async def letters(text: str) -> str:
    return text


def words_of(name: str, position: int) -> Provider:
    async def handler() -> str:
        return "word " * 10

    return Provider(name, handler, position=position)


async def test_d14_the_estimator_can_be_replaced_and_one_that_fails_is_passed_over() -> None:
    seen: list[Any] = []
    plugin = Plugin("p", providers=[words_of("A", 0)], actions=[looker(seen)])
    async with agent("Ada", plugin) as runtime:
        runtime.estimate_tokens = lambda text: 1234
        await say(runtime, "look: 1")
        runtime.estimate_tokens = lambda text: int("x")
        await say(runtime, "look: 2")
        assert runtime.metrics.failures["estimator tokens"] == 1
    assert seen[0].metadata["tokenCount"] == 1234
    assert 5 < seen[1].metadata["tokenCount"] < 50


async def test_d14_a_budget_leaves_out_the_oldest_messages_first_then_the_last_providers() -> None:
    seen: list[Any] = []
    plugin = Plugin("p", providers=[words_of("LATE", 5), words_of("EARLY", 1)], actions=[looker(seen)])
    character: dict[str, Any] = {"name": "Ada", "bio": "x", "settings": {"contextTokens": 100}}
    async with agent(character, plugin) as runtime:
        runtime.estimate_tokens = lambda text: 20 if "word" in text else 10
        for number in range(5):
            await say(runtime, f"look: {number}")
    last = seen[-1]
    assert len(last.messages) == 6  # 60, and 2 providers of 20
    assert last.messages[-1].content.text == "look: 4"
    assert "[LATE]" in last.context
    character["settings"] = {"contextTokens": 30}
    seen.clear()
    async with agent(character, plugin) as runtime:
        runtime.estimate_tokens = lambda text: 20 if "word" in text else 10
        await say(runtime, "look: 1")
        await say(runtime, "look: 2")
    assert [one.content.text for one in seen[-1].messages] == ["look: 2"]
    assert "[EARLY]" in seen[-1].context
    assert "[LATE]" not in seen[-1].context
    assert set(seen[-1].providers) == {"EARLY", "LATE"}


@pytest.mark.parametrize(("given", "kept"), [("30", 1), ("many", 3), (-1, 3), (True, 3)])
async def test_d14_a_budget_that_comes_as_a_text_counts_and_one_that_is_none_is_said(
    given: Any, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Any] = []
    character = {"name": "Ada", "bio": "x", "settings": {"contextTokens": given}}
    async with agent(character, Plugin("p", actions=[looker(seen)])) as runtime:
        runtime.estimate_tokens = lambda text: 20
        await say(runtime, "look: 1")
        await say(runtime, "look: 2")
    assert len(seen[-1].messages) == kept
    assert ("the setting contextTokens must be a whole number" in caplog.text) is (kept == 3)


async def test_d15_concurrent_messages_each_see_the_state_composed_for_them() -> None:
    seen: dict[str, str] = {}

    async def told(message: Message) -> str:
        await others_run()
        return f"about {message.text}"

    async def look(state: Any, message: Message) -> None:
        """Looks."""
        seen[message.text] = state.context

    plugin = Plugin("p", providers=[Provider("T", told)], actions=[Action("LOOK", look)])
    async with agent("Ada", plugin) as runtime:
        await asyncio.gather(*(say(runtime, f"look: {n}", room=f"r{n}") for n in range(10)))
    assert seen == {f"look: {n}": f"\n[T]\nabout look: {n}\n" for n in range(10)}


def spender(tokens: int) -> Plugin:
    async def text(request: TextRequest) -> TextReply:
        await others_run()
        return TextReply("said", Usage(tokens, 10), "dear-1")

    return Plugin("spender", models=[ModelHandler("text_large", text, "dear", 10)])


PRICED: dict[str, Any] = {
    "name": "Ada", "bio": "x", "settings": {"prices": {"dear-1": {"input": 2.0, "output": 10}}},
}  # fmt: skip


async def test_x5_a_response_says_what_its_models_cost_and_the_agent_keeps_the_total() -> None:
    async with agent(PRICED, spender(1000)) as runtime:
        results = await asyncio.gather(*(say(runtime, "hi", room=f"r{n}") for n in range(3)))
        for result in results:
            assert result.response is not None
            assert result.response.metadata["usage"] == {
                "calls": 1, "input_tokens": 1000, "output_tokens": 10, "cost": pytest.approx(0.0021),
            }  # fmt: skip
        assert runtime.spending.total.calls == 3
        assert runtime.spending.report()["models"]["dear-1"]["input_tokens"] == 3000


async def test_x5_a_tasks_result_carries_what_it_cost() -> None:
    from swarm.agent.answering import task_outcome
    from swarm.agent.hand import TurnInHand

    outcomes: list[Any] = []
    async with agent(PRICED, spender(500)) as runtime:

        async def keep(turn: TurnInHand) -> None:
            outcomes.append(task_outcome(turn))

        from swarm.agent.turn import STEPS

        message = Message(
            id="t1",
            sender="boss",
            room="task:t1",
            kind="task",
            content=Content(text="work"),
            task="t1",
            attempt=1,
        )
        turn = TurnInHand(runtime, message)
        with turn.current():
            for step in STEPS:
                await step(turn)
        await keep(turn)
    assert outcomes[0].state == "completed"
    assert outcomes[0].result.metadata["usage"]["input_tokens"] == 500


async def test_x5_what_a_task_cost_is_known_also_when_it_failed_over_all_its_attempts() -> None:
    async def spend(message: Message) -> dict[str, Any]:
        """Spends, and fails."""
        await runtime.use_model("text_large", TextRequest(prompt="hi"))
        return {"success": False, "error": "in vain"}

    async def attempt(task: str, number: int) -> None:
        await runtime.process_message(
            Message(
                id=task,
                sender="boss",
                room=f"task:{task}",
                kind="task",
                content=Content(text="work"),
                task=task,
                attempt=number,
            )
        )

    plugin = Plugin("p", actions=[Action("SPEND", spend)])
    async with agent(PRICED, spender(500), plugin) as runtime:
        await asyncio.gather(attempt("t1", 1), attempt("t2", 1))
        await attempt("t1", 2)
        told = report(runtime)["model_usage"]
    assert told["calls"] == 3 and told["cost"] == pytest.approx(0.0033)
    assert {task: one["input_tokens"] for task, one in told["tasks"].items()} == {"t2": 500, "t1": 1000}


def test_x5_only_the_latest_tasks_are_kept() -> None:
    spending = Spending(lambda key, default: {})
    for number in range(MOST_TASKS + 20):
        for task in ("old", f"t{number}"):
            with on_account(Spent(), task):
                spending.observe(ModelCall("text", "p", "m", Usage(1, 1), 0.1))
    assert len(spending.by_task) == MOST_TASKS
    assert spending.by_task["old"].calls == MOST_TASKS + 20, "one that still spends is not forgotten"
    assert "t0" not in spending.by_task


def test_x5_models_are_bounded_in_number_and_strange_prices_cost_nothing() -> None:
    spending = Spending(lambda key, default: {"m": {"input": "much"}, "n": 7})
    for number in range(MOST_MODELS + 50):
        spending.observe(ModelCall("text", "p", f"m{number}", Usage(1, 1), 0.1))
    spending.observe(ModelCall("text", "p", "m", Usage(1, 1), 0.1, "failed"))
    assert len(spending.by_model) == MOST_MODELS + 1
    assert spending.total.cost == 0
    assert spending.total.failed == 1
