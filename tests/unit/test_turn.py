"""A turn, step by step.

Rows by the words of the tests here: B12 comes from the action; D1 a validator; D2, D3 no model is asked, a
part of its name, told which there are; D4 wrapped into a success; D5 parameters are checked; D6 pieces of an
answer; D7 says in one line; D8 a failed action; D9 given up at its timeout; D10, D12, D13 providers appear;
D11, D15 its own state; D16, D17, D19 evaluators run; P10 every plugins hooks, fails closed; P11 each sees;
P12, P13 block an action; X9 reach the prompt. What came later names its row first: test_turn_choosing (D1 to
D3, D8, X3), _streaming (D6), _containment (D4, D8, D9, D12, D17 to D19, P10 to P13), _budget (D14, D15, X5)
and _deciding (X2).
"""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import msgspec
import pytest

from swarm.components import Action, ActionResult, Evaluator, Message, Provider
from swarm.plugin import Plugin
from swarm.testing import ScriptedModel, agent, eventually, say


async def echo(message: Message) -> str:
    """Says it back."""
    return message.text


async def boom(message: Message) -> None:
    """Fails."""
    raise ValueError("no such thing")


async def test_an_answer_comes_from_the_action_that_was_named() -> None:
    plugin = Plugin("p", actions=[Action("ECHO", echo), Action("BOOM", boom)])
    async with agent("Ada", plugin) as runtime:
        result = await say(runtime, "echo: hello")
    assert result.status == "handled"
    assert result.response is not None
    assert result.response.text == "echo: hello"
    assert result.actions[0].execution_time > 0


async def test_a_failed_action_is_a_failure_and_the_message_still_gets_an_answer() -> None:
    async with agent("Ada", Plugin("p", actions=[Action("BOOM", boom)])) as runtime:
        result = await say(runtime, "boom: now")
    assert result.status == "handled"
    assert result.response is not None
    assert result.response.data == {"success": False, "error": "ValueError: no such thing"}
    assert not result.actions[0].success


@pytest.mark.parametrize(
    ("returned", "success"),
    [
        ({"success": False, "error": "x"}, False),
        ({"text": "ok"}, True),
        (None, True),
        (7, False),
        ("x", True),
    ],
)
async def test_what_a_handler_returns_is_not_wrapped_into_a_success(returned: Any, success: bool) -> None:
    async def handler() -> Any:
        """Returns."""
        return returned

    async with agent("Ada", Plugin("p", actions=[Action("DO", handler)])) as runtime:
        result = await say(runtime, "do: it")
    assert result.actions[0].success is success


async def test_an_action_that_hangs_is_given_up_at_its_timeout() -> None:
    async def hang() -> None:
        """Hangs."""
        await asyncio.Event().wait()

    async with agent("Ada", Plugin("p", actions=[Action("HANG", hang, timeout=0.05)])) as runtime:
        result = await say(runtime, "hang: on")
    assert result.actions[0].reason == "timeout"


async def test_a_models_answer_never_runs_an_action_by_a_part_of_its_name() -> None:
    ran: list[str] = []

    async def act() -> None:
        """Acts."""
        ran.append("x")

    model = ScriptedModel(choices=["ACT"], texts=["only words"])
    plugin = Plugin("p", actions=[Action("BENCH_ACT_0", act), Action("BENCH_ACT_1", act)])
    async with agent("Ada", plugin, model.plugin()) as runtime:
        result = await say(runtime, "do something")
    assert ran == []
    assert result.response is not None
    assert result.response.text == "only words"


async def test_a_program_that_names_an_unknown_action_is_told_which_there_are() -> None:
    async with agent("Ada", Plugin("p", actions=[Action("ECHO", echo)])) as runtime:
        result = await say(runtime, data={"action": "ECO"})
    assert result.response is not None
    assert "no action 'ECO'; did you mean ECHO?" in result.response.text


async def test_no_model_is_asked_for_a_single_candidate() -> None:
    model = ScriptedModel()
    async with agent("Ada", Plugin("p", actions=[Action("ECHO", echo)]), model.plugin()) as runtime:
        assert (await say(runtime, "hi")).response.text == "hi"  # type: ignore[union-attr]
    assert model.asked == []


async def test_a_validator_that_raises_or_hangs_excludes_its_action_and_blocks_no_other(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("swarm.agent.choosing.VALIDATE_SECONDS", 0.05)

    async def raises() -> bool:
        raise RuntimeError("no")

    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    actions = [Action("A", boom, validate=raises), Action("B", boom, validate=hangs), Action("ECHO", echo)]
    async with agent("Ada", Plugin("p", actions=actions)) as runtime:
        assert (await say(runtime, "hi")).response.text == "hi"  # type: ignore[union-attr]


class Path(msgspec.Struct):
    path: str
    depth: int = 1


async def test_parameters_are_checked_before_the_handler_sees_them() -> None:
    async def read(options: Any) -> str:
        """Reads."""
        return f"{options.parameters.path} {options.parameters.depth}"

    async with agent("Ada", Plugin("p", actions=[Action("READ", read, parameters=Path)])) as runtime:
        good = await say(runtime, "read: it", data={"path": "a", "depth": 3})
        bad = await say(runtime, "read: it", data={"path": 7})
        talk = await say(runtime, "hello there")
    assert good.response is not None
    assert good.response.text == "a 3"
    assert bad.response is not None
    assert "parameters of action READ are not right" in bad.response.text
    assert talk.actions == ()


async def test_providers_appear_in_the_context_by_position_and_may_return_nothing() -> None:
    last = asyncio.Event()

    async def slow() -> str:
        await last.wait()
        return "one"

    async def nothing() -> None:
        return None

    async def fails() -> str:
        raise KeyError("x")

    async def table() -> dict[str, Any]:
        last.set()
        return {"text": "two", "data": {"facts": ["the sky is blue"]}}

    seen: list[Any] = []

    async def look(state: Any) -> str:
        """Looks."""
        seen.append(state)
        return "ok"

    providers = [
        Provider("TABLE", table), Provider("NONE", nothing), Provider("FAILS", fails),
        Provider("SLOW", slow, position=-1),
    ]  # fmt: skip
    plugin = Plugin("p", providers=providers, actions=[Action("LOOK", look)])
    async with agent("Ada", plugin) as runtime:
        await say(runtime, "look: now")
        assert runtime.metrics.failures["provider FAILS"] == 1
    (state,) = seen
    assert state.context == "\n[SLOW]\none\n\n[TABLE]\ntwo\n"
    assert state.facts == ("the sky is blue",)
    assert set(state.metadata) == {"roomId", "entityId", "timestamp", "tokenCount"}


async def test_a_provider_of_50_mb_is_cut_and_says_so_to_the_model_and_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def flood() -> str:
        return "x" * 50_000_000

    seen: list[str] = []

    async def look(state: Any) -> None:
        """Looks."""
        seen.append(state.context)

    async with agent(
        "Ada", Plugin("p", providers=[Provider("F", flood)], actions=[Action("LOOK", look)])
    ) as runtime:
        await say(runtime, "look: now")
        assert runtime.metrics.failures["provider F"] == 1
    assert len(seen[0]) < 70_000
    assert "more characters were cut" in seen[0]
    assert "provider F said 50,000,000 characters, and 64,000 of them are kept (plugin p)" in caplog.text


async def test_d11_d15_the_second_message_sees_its_own_state_and_the_rooms_history_in_order() -> None:
    seen: list[list[str]] = []

    async def look(state: Any) -> str:
        """Looks."""
        seen.append([memory.content.text for memory in state.messages])
        return f"seen {len(seen)}"

    async with agent("Ada", Plugin("p", actions=[Action("LOOK", look)]), conversation_length=3) as runtime:
        await say(runtime, "look: 1")
        await say(runtime, "look: elsewhere", room="other")
        await say(runtime, "look: 2")
        await say(runtime, "look: 3")
    assert seen[2] == ["look: 1", "seen 1", "look: 2"]
    assert seen[3] == ["seen 1", "look: 2", "seen 3", "look: 3"]


async def test_a_message_that_comes_twice_is_remembered_once() -> None:
    async with agent("Ada", Plugin("p", actions=[Action("ECHO", echo)])) as runtime:
        await say(runtime, "hi", id="one")
        await say(runtime, "hi", id="one")
        assert await runtime.store.count_memories() == 2


async def test_every_plugins_hooks_run_and_each_sees_what_the_one_before_left() -> None:
    """P10, P11, fault 11."""
    trace: list[str] = []

    def hooked(name: str) -> Plugin:
        async def before(message: Message) -> Message:
            trace.append(f"{name}.before")
            content = msgspec.structs.replace(message.content, text=f"{message.text}+{name}")
            return msgspec.structs.replace(message, content=content)

        async def after(message: Message, response: Any) -> None:
            trace.append(f"{name}.after {response.text}")

        return Plugin(name, before_message=before, after_message=after)

    async with agent("Ada", hooked("a"), hooked("b"), Plugin("p", actions=[Action("ECHO", echo)])) as runtime:
        await say(runtime, "x")
    assert trace == ["a.before", "b.before", "a.after x+a+b", "b.after x+a+b"]


async def test_a_hook_that_fails_closed_rejects_and_one_that_fails_open_does_not() -> None:
    """P10."""

    async def bad(message: Message) -> Message:
        raise ValueError("unclean")

    closed = Plugin("closed", before_message=bad, on_hook_error="fail_closed")
    async with agent("Ada", Plugin("open", before_message=bad)) as runtime:
        assert (await say(runtime, "x")).status == "handled"
    async with agent("Ada", closed) as runtime:
        result = await say(runtime, "x")
    assert result.status == "rejected"
    assert "plugin closed" in (result.error or "")


async def test_p12_p13_a_plugin_can_block_an_action_and_after_action_is_told_of_failures() -> None:
    """P12, P13, fault 11."""
    told: list[ActionResult] = []

    async def block(action: Action) -> bool:
        return action.name != "ECHO"

    async def after(result: ActionResult) -> None:
        told.append(result)
        raise RuntimeError("cannot turn a success into a failure")

    actions = [Action("ECHO", echo), Action("BOOM", boom), Action("FINE", echo)]
    plugin = Plugin("p", actions=actions)
    # hooks are called with the names they ask for; `action` and `result` are the hooks' own
    plugin.before_action, plugin.after_action = block, after
    async with agent("Ada", plugin) as runtime:
        blocked = (await say(runtime, "echo: x")).actions[0]
        await say(runtime, "boom: x")
        fine = (await say(runtime, "fine: x")).actions[0]
    assert (blocked.success, blocked.reason, blocked.plugin) == (False, "Blocked by plugin", "p")
    assert blocked.execution_time > 0
    assert [result.success for result in told] == [False, True]
    assert fine.success


async def test_evaluators_run_when_they_should_and_off_the_path() -> None:
    ran: list[str] = []
    gate = asyncio.Event()

    def evaluator(name: str, **fields: Any) -> Evaluator:
        async def handler() -> str:
            await gate.wait()
            ran.append(name)
            return name

        return Evaluator(name, handler, **fields)

    async def no() -> bool:
        return False

    async def fails() -> None:
        raise ValueError("bad")

    evaluators = [
        evaluator("DEFAULT"), evaluator("ALWAYS", always_run=True), evaluator("NOT", should_run=no),
        evaluator("INVALID", validate=no), Evaluator("FAILS", fails),
    ]  # fmt: skip
    async with agent("Ada", Plugin("p", evaluators=evaluators)) as runtime:
        result = await asyncio.wait_for(say(runtime, "hello"), 5)
        assert result.response is not None
        assert ran == []
        gate.set()
        await eventually(lambda: len(ran) == 2)
        stored = await eventually(lambda: _three(runtime))
        await say(runtime, "note this", kind="tell")
        await eventually(lambda: ran.count("ALWAYS") == 2)
        assert ran.count("DEFAULT") == 1
    assert {memory.entity: memory.content.data["success"] for memory in stored} == {
        "DEFAULT": True, "ALWAYS": True, "FAILS": False,
    }  # fmt: skip


async def _three(runtime: Any) -> Any:
    found = await runtime.store.get_memories(kind="evaluation")
    return found if len(found) == 3 else None


async def test_a_tell_gets_no_answer_so_that_two_agents_cannot_talk_for_ever() -> None:
    async with agent("Ada") as runtime:
        assert (await say(runtime, "thank you", kind="tell")).response is None
        assert (await say(runtime, "thank you", kind="ask")).response is not None


async def test_x9_the_characters_style_examples_and_topics_reach_the_prompt() -> None:
    model = ScriptedModel(texts=["hello"])
    character = {
        "name": "Ada", "bio": ["{{name}} counts."], "topics": ["sums"], "style": {"all": ["brief"]},
        "messageExamples": [
            [{"name": "{{user1}}", "content": {"text": "hi"}}, {"name": "Ada", "content": {"text": "yo"}}]
        ],
    }  # fmt: skip
    async with agent(character, model.plugin()) as runtime:
        await say(runtime, "hello?")
    prompt = model.asked[0].system  # type: ignore[union-attr]
    assert prompt is not None
    for words in ("Ada counts.", "sums", "brief", "Ada: yo"):
        assert words in prompt


async def test_pieces_of_an_answer_are_numbered_and_marked_with_their_run() -> None:
    pieces: list[dict[str, Any]] = []

    async def stream(callback: Any) -> str:
        """Streams."""
        await callback("a")
        await callback("b", final=True)
        return "ab"

    async with agent("Ada", Plugin("p", actions=[Action("STREAM", stream)])) as runtime:
        runtime.events.on("action:response", pieces.append)
        result = await say(runtime, "stream: it", id="m1")
    assert [(p["seq"], p["final"], p["message_id"], p["response"].text) for p in pieces] == [
        (0, False, "m1", "a"), (1, False, "m1", "b"), (2, True, "m1", ""),
    ]  # fmt: skip
    assert {p["run_id"] for p in pieces} == {result.run_id}


async def test_d7_an_action_says_in_one_line_how_it_ended_and_how_long_it_took(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="swarm.agent.acting")
    async with agent("Ada", Plugin("p", actions=[Action("ECHO", echo), Action("BOOM", boom)])) as runtime:
        await say(runtime, "echo: x")
        await say(runtime, "boom: x")
        assert (runtime.metrics.actions["ECHO"], runtime.metrics.action_failures["BOOM"]) == (1, 1)
    lines = [record.getMessage() for record in caplog.records if record.levelno <= logging.INFO]
    assert re.fullmatch(r"action ECHO succeeded in \d+ ms", lines[0])
    assert re.fullmatch(r"action BOOM failed in \d+ ms: ValueError: no such thing \(plugin \w+\)", lines[1])


async def test_nobody_who_looks_means_no_question_to_the_store_and_who_looks_sees_the_room() -> None:
    """D11: the room's messages are read once, and only for a handler, provider, selector or model that looks."""
    asked: list[str | None] = []
    seen: list[int] = []

    async def look(state: Any) -> str:
        """Looks."""
        seen.append(len(state.messages))
        return "seen"

    plugin = Plugin("p", actions=[Action("ECHO", echo), Action("LOOK", look)])
    async with agent("Ada", plugin) as runtime:
        read = runtime.adapter.get_memories

        async def counted(**query: Any) -> Any:
            asked.append(query.get("room"))
            return await read(**query)

        runtime.adapter.get_memories = counted  # type: ignore[method-assign]
        await say(runtime, "echo: one")
        assert asked == []
        await say(runtime, "look: now")
        await say(runtime, "what else could one say to two actions")
    assert seen == [3]
    assert asked == ["test", "test"]
