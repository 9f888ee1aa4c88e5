"""Nothing that a plugin brings kills a message: nonsense, floods, what no store keeps.

Rows D4, D8, D9, D12, D17 to D19, P10 to P13.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from swarm.agent.storable import MAX_BYTES, Unstorable, storable
from swarm.components import Action, ActionResult, Evaluator, Message, Provider
from swarm.plugin import Plugin
from swarm.records import Content
from swarm.testing import agent, eventually, say


class Rude(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


DEEP: list[Any] = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ("x" * 50_000_000, "too_large"),
        ({"data": {"blob": "x" * (MAX_BYTES + 1)}}, "too_large"),
        ({"data": {"thing": object()}}, "not_json"),
        ({"data": {"deep": DEEP}}, "not_json"),
        ({"data": {"big": 2**70}}, "not_json"),
        (ActionResult(True, text=7), "bad_result"),  # type: ignore[arg-type]
        (ActionResult(True, data=["a"]), "bad_result"),  # type: ignore[arg-type]
        (Content(text="x", data={"self": lambda: None}), "not_json"),
    ],
)
async def test_d4_what_cannot_be_kept_fails_the_action_with_a_sentence_and_the_message_is_handled(
    returned: Any, reason: str
) -> None:
    async def handler() -> Any:
        """Returns."""
        return returned

    async with agent("Ada", Plugin("p", actions=[Action("DO", handler)])) as runtime:
        result = await say(runtime, "do: it")
        assert await runtime.store.count_memories() == 2
    (done,) = result.actions
    assert (result.status, done.success, done.reason) == ("handled", False, reason)
    assert "DO" in str(done.error)
    assert done.execution_time > 0


async def test_d4_nul_and_half_characters_are_replaced_so_that_the_turn_can_commit() -> None:
    async def handler() -> Any:
        """Returns."""
        return {"text": "a\0b\ud800", "data": {"k\0": ["\0", {"x": "\udfff"}], "n": float("nan")}}

    async with agent("Ada", Plugin("p", actions=[Action("DO", handler)])) as runtime:
        result = await say(runtime, "do: it")
        stored = (await runtime.store.get_memories(kind="message"))[-1]
    assert result.response is not None
    assert result.response.text == "a\ufffdb\ufffd"
    assert stored.content.data == {"k\ufffd": ["\ufffd", {"x": "\ufffd"}], "n": None}


@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), Rude(), ValueError("a\0b")])
async def test_d8_an_exception_of_whatever_kind_is_a_failed_result(error: BaseException) -> None:
    async def handler() -> None:
        """Raises."""
        raise error

    async with agent("Ada", Plugin("p", actions=[Action("DO", handler)])) as runtime:
        result = await say(runtime, "do: it")
    assert result.status == "handled"
    assert not result.actions[0].success
    assert "\0" not in str(result.actions[0].error)


async def test_d9_a_real_cancellation_still_ends_the_turn() -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        """Hangs."""
        begun.set()
        await asyncio.Event().wait()

    async with agent("Ada", Plugin("p", actions=[Action("HANG", hang)])) as runtime:
        turn = asyncio.create_task(say(runtime, "hang: on"))
        await begun.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn


async def test_d9_a_timeout_of_the_handlers_own_is_not_called_ours() -> None:
    async def impatient() -> None:
        """Waits."""
        async with asyncio.timeout(0.001):
            await asyncio.Event().wait()

    async with agent("Ada", Plugin("p", actions=[Action("DO", impatient)])) as runtime:
        result = await say(runtime, "do: it")
    assert result.actions[0].reason == "exception"


async def test_a_memory_or_a_message_that_no_store_keeps_fails_the_action_that_made_it() -> None:
    async def remember(runtime: Any) -> None:
        """Remembers."""
        await runtime.remember("x", data={"thing": object()})

    async with agent("Ada", Plugin("p", actions=[Action("DO", remember)])) as runtime:
        result = await say(runtime, "do: it")
    assert "The memory cannot be written as JSON" in str(result.actions[0].error)


@pytest.mark.parametrize("nonsense", [7, "text", Content(text="x"), {"text": "x"}, False])
async def test_p10_a_hook_that_returns_nonsense_keeps_the_message_or_rejects_it_by_its_policy(
    nonsense: Any,
) -> None:
    async def before() -> Any:
        return nonsense

    async with agent("Ada", Plugin("open", before_message=before)) as runtime:
        assert (await say(runtime, "x")).status == "handled"
        assert runtime.metrics.failures["hook open.before_message"] == 1
    closed = Plugin("closed", before_message=before, on_hook_error="fail_closed")
    async with agent("Ada", closed) as runtime:
        assert "plugin closed" in str((await say(runtime, "x")).error)


async def test_p10_a_hook_changes_what_is_said_and_not_who_said_it_where() -> None:
    async def before(message: Message) -> Message:
        content = Content(text="a\0b", metadata={"preprocessed": True})
        return msgspec.structs.replace(message, content=content, sender="root", room="elsewhere", id="x")

    seen: list[Message] = []

    async def look(message: Message) -> None:
        """Looks."""
        seen.append(message)

    plugin = Plugin("p", before_message=before, actions=[Action("LOOK", look)])
    async with agent("Ada", plugin) as runtime:
        result = await say(runtime, "hello")
    assert result.status == "handled"
    assert (seen[0].sender, seen[0].room, seen[0].text) == ("tester", "test", "a\ufffdb")
    assert seen[0].content.metadata == {"preprocessed": True}


async def test_p11_what_a_hook_says_or_remembers_after_the_message_is_written() -> None:
    async def after(runtime: Any) -> None:
        await runtime.remember("afterwards")

    async with agent("Ada", Plugin("p", after_message=after)) as runtime:
        await say(runtime, "hello")
        facts = await runtime.store.get_memories(kind="fact")
    assert [one.content.text for one in facts] == ["afterwards"]


@pytest.mark.parametrize("answer", [None, True, "no", 0])
async def test_p12_only_false_or_a_failure_blocks_an_action(answer: Any) -> None:
    async def before() -> Any:
        return answer

    async def do() -> str:
        """Does."""
        return "done"

    async with agent("Ada", Plugin("p", before_action=before, actions=[Action("DO", do)])) as runtime:
        assert (await say(runtime, "do: it")).actions[0].success


async def test_p12_a_hook_that_raises_or_hangs_blocks_and_the_handler_does_not_run(monkeypatch: Any) -> None:
    monkeypatch.setattr("swarm.agent.acting.HOOK_SECONDS", 0.05)
    ran: list[str] = []

    async def hangs() -> bool:
        await asyncio.Event().wait()
        return True

    async def after(action: Action) -> None:
        ran.append("after")

    async def do() -> None:
        """Does."""
        ran.append("do")

    async with agent(
        "Ada", Plugin("p", before_action=hangs, after_action=after, actions=[Action("DO", do)])
    ) as runtime:
        result = await say(runtime, "do: it")
    assert result.actions[0].reason == "Blocked by plugin"
    assert ran == []


async def test_d12_providers_run_together_and_one_that_hangs_or_is_rude_is_left_out() -> None:
    both = asyncio.Barrier(2)

    async def meets() -> str:
        await both.wait()  # only ends if the other runs at the same time
        return "met\0"

    async def hangs() -> str:
        await asyncio.Event().wait()
        return ""

    async def rude() -> str:
        raise Rude

    seen: list[Any] = []

    async def look(state: Any) -> None:
        """Looks."""
        seen.append(state)

    providers = [
        Provider("A", meets), Provider("B", meets), Provider("HANGS", hangs, timeout=0.05), Provider("RUDE", rude),
    ]  # fmt: skip
    async with agent("Ada", Plugin("p", providers=providers, actions=[Action("LOOK", look)])) as runtime:
        await asyncio.wait_for(say(runtime, "look: now"), 5)
        assert set(runtime.metrics.failures) == {"provider HANGS", "provider RUDE"}
    assert seen[0].context == "\n[A]\nmet\ufffd\n\n[B]\nmet\ufffd\n"


async def test_d17_d18_each_evaluator_leaves_one_row_whatever_it_returns_and_gets_a_list_of_responses() -> (
    None
):
    heard: list[Any] = []

    async def lists(responses: Any, runtime: Any) -> Any:
        heard.append(responses)
        await runtime.remember("noted by an evaluator")
        return {"n": len(responses)}

    async def nonsense() -> Any:
        return object()

    async def huge() -> Any:
        return "x" * 2_000_000

    async def fails() -> Any:
        raise ValueError("bad\0")

    evaluators = [
        Evaluator(name, handler, always_run=True)
        for name, handler in [("LISTS", lists), ("NONSENSE", nonsense), ("HUGE", huge), ("FAILS", fails)]
    ]
    async with agent("Ada", Plugin("p", evaluators=evaluators)) as runtime:
        await say(runtime, "note", kind="tell", id="m1")
        rows = await eventually(lambda: _rows(runtime, 4))
        facts = await eventually(lambda: runtime.store.get_memories(kind="fact"))
    assert heard == [[]]
    assert {row.content.data["message"] for row in rows} == {"m1"}
    said = {row.entity: row.content.data for row in rows}
    assert said["LISTS"]["data"] == {"n": 0}
    assert {name: one["success"] for name, one in said.items()} == {
        "LISTS": True, "NONSENSE": False, "HUGE": False, "FAILS": False,
    }  # fmt: skip
    assert all(isinstance(one.get("error", ""), str) for one in said.values())
    assert [fact.content.text for fact in facts] == ["noted by an evaluator"]


async def test_d19_the_next_message_of_the_room_does_not_wait_for_an_evaluator() -> None:
    gate = asyncio.Event()

    async def slow() -> None:
        await gate.wait()

    async with agent("Ada", Plugin("p", evaluators=[Evaluator("SLOW", slow, always_run=True)])) as runtime:
        await asyncio.wait_for(say(runtime, "one"), 5)
        await asyncio.wait_for(say(runtime, "two"), 5)
        assert not await runtime.store.get_memories(kind="evaluation")
        gate.set()
        await eventually(lambda: _rows(runtime, 2))


async def _rows(runtime: Any, count: int) -> Any:
    found = await runtime.store.get_memories(kind="evaluation")
    return found if len(found) == count else None


def test_what_is_storable_comes_back_as_plain_json() -> None:
    class Point(msgspec.Struct):
        x: int

    assert storable("It", "t", {"p": Point(1), "s": (1, 2)}) == ("t", {"p": {"x": 1}, "s": [1, 2]})
    with pytest.raises(Unstorable, match="put it in a file or the store"):
        storable("It", "x" * MAX_BYTES + "y", {})
