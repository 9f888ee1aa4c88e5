"""The registry's promises: who wins, what an unknown name says, what is counted, what stays secret."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable

import pytest

from bus.errors import TooLate
from swarm.agent.models import (
    CHOICE,
    TEXT_LARGE,
    TEXT_SMALL,
    Candidate,
    ChoiceReply,
    ChoiceRequest,
    ModelCall,
    ModelRegistry,
    TextReply,
    TextRequest,
    Usage,
    candidate,
    choose,
    resolve,
)
from swarm.components import Action
from swarm.errors import ModelError

HELLO = TextRequest(prompt="hello")


def says(text: str) -> Callable[[TextRequest], Awaitable[TextReply]]:
    async def handler(request: TextRequest) -> TextReply:
        return TextReply(text, Usage(2, 3), f"model-{text}")

    return handler


async def test_the_highest_priority_wins_whatever_the_order() -> None:
    registry = ModelRegistry()
    registry.register(TEXT_SMALL, says("low"), "a", -1)
    registry.register(TEXT_SMALL, says("high"), "b", 5)
    registry.register(TEXT_SMALL, says("default"), "c")
    assert (await registry.use(TEXT_SMALL, HELLO)).text == "high"
    assert [one.provider for one in registry.models["text_small"]] == ["b", "c", "a"]


async def test_among_equals_the_first_registered_wins() -> None:
    registry = ModelRegistry()
    for name in ("first", "second", "third"):
        registry.register(TEXT_SMALL, says(name), name)
    assert (await registry.use(TEXT_SMALL, HELLO)).text == "first"


async def test_a_provider_can_be_asked_for_by_name_in_any_case() -> None:
    registry = ModelRegistry()
    registry.register("TEXT_SMALL", says("a"), "Local")
    registry.register(TEXT_SMALL, says("b"), "openai", 9)
    assert (await registry.use("text_small", HELLO, provider="LOCAL")).text == "a"
    assert registry.has(TEXT_SMALL, "local") and not registry.has(TEXT_LARGE)


async def test_an_unknown_type_is_named_with_what_there_is_and_near_names() -> None:
    registry = ModelRegistry()
    registry.register(TEXT_SMALL, says("a"), "local")
    registry.register("image", says("b"), "local")
    with pytest.raises(ModelError) as caught:
        await registry.use("TEXT_SMAL", HELLO)
    text = caught.value.text
    assert "'TEXT_SMAL'" in text and "image, text_small" in text and "did you mean text_small?" in text
    with pytest.raises(ModelError, match="there are: none"):
        await ModelRegistry().use(CHOICE, HELLO)


async def test_an_unknown_provider_is_named_with_those_that_serve_the_type() -> None:
    registry = ModelRegistry()
    registry.register(TEXT_SMALL, says("a"), "openai")
    with pytest.raises(ModelError) as caught:
        await registry.use(TEXT_SMALL, HELLO, provider="openia")
    assert "'openia'" in caught.value.text and "did you mean openai?" in caught.value.text


async def test_the_views_are_read_only() -> None:
    registry = ModelRegistry()
    registry.register(TEXT_SMALL, says("a"), "local")
    with pytest.raises(TypeError):
        registry.models["text_small"] = ()  # type: ignore[index]
    with pytest.raises(TypeError):
        registry.usage["text_small", "local"] = Usage()  # type: ignore[index]


async def test_tokens_are_counted_and_each_call_is_observed() -> None:
    calls: list[ModelCall] = []
    registry = ModelRegistry(calls.append)
    registry.register(TEXT_SMALL, says("a"), "local")
    await registry.use(TEXT_SMALL, HELLO)
    await registry.use(TEXT_SMALL, HELLO)
    assert registry.usage["text_small", "local"] == Usage(4, 6)
    assert [(call.model, call.usage.total, call.error) for call in calls] == [("model-a", 5, "")] * 2


async def test_a_failing_handler_becomes_a_model_error_without_the_text_that_may_hold_a_secret() -> None:
    calls: list[ModelCall] = []
    registry = ModelRegistry(calls.append)

    async def breaks(request: TextRequest) -> TextReply:
        raise RuntimeError("key sk-very-secret is wrong")

    registry.register(TEXT_SMALL, breaks, "mine")
    with pytest.raises(ModelError) as caught:
        await registry.use(TEXT_SMALL, HELLO)
    assert "'mine'" in caught.value.text and "RuntimeError" in caught.value.text
    assert "sk-very-secret" not in caught.value.text
    assert "sk-very-secret" in "".join(traceback.format_exception(caught.value))  # the cause is kept
    assert calls[0].error == "failed"


async def test_our_own_errors_and_cancellation_pass_as_they_are() -> None:
    calls: list[ModelCall] = []
    registry = ModelRegistry(calls.append)
    entered = asyncio.Event()

    async def late(request: TextRequest) -> TextReply:
        raise TooLate("The deadline has passed.")

    async def hangs(request: TextRequest) -> TextReply:
        entered.set()
        await asyncio.Event().wait()
        raise AssertionError

    registry.register(TEXT_SMALL, late, "mine")
    registry.register(TEXT_LARGE, hangs, "mine")
    with pytest.raises(TooLate):
        await registry.use(TEXT_SMALL, HELLO)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(registry.use(TEXT_LARGE, HELLO))
        await asyncio.wait_for(entered.wait(), 5)
        task.cancel()
    assert [call.error for call in calls] == ["too_late", "cancelled"]


async def test_a_failing_observer_does_not_fail_the_call(caplog: pytest.LogCaptureFixture) -> None:
    def breaks(call: ModelCall) -> None:
        raise RuntimeError("no metrics today")

    registry = ModelRegistry(breaks)
    registry.register(TEXT_SMALL, says("a"), "local")
    assert (await registry.use(TEXT_SMALL, HELLO)).text == "a"
    assert "observer" in caplog.text


def test_a_request_needs_a_prompt_or_messages() -> None:
    with pytest.raises(ValueError, match="prompt or messages"):
        TextRequest()


def test_registering_nonsense_says_so() -> None:
    registry = ModelRegistry()
    with pytest.raises(ModelError, match="type and a provider"):
        registry.register(" ", says("a"), "local")
    with pytest.raises(ModelError, match="not callable"):
        registry.register(TEXT_SMALL, "text", "local")  # type: ignore[type-var]


SEND, SEND_ALL, PLAY = (
    Candidate("SEND_MAIL", similes=("MAIL", "POST")),
    Candidate("SEND_MAIL_TO_ALL", similes=("BROADCAST", "POST")),
    Candidate("PLAY", similes=("sing a song",)),
)
THREE = (SEND, SEND_ALL, PLAY)


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("SEND_MAIL", "SEND_MAIL"),
        (" `SEND_MAIL`.\n", "SEND_MAIL"),
        ("send mail", "SEND_MAIL"),
        ("broadcast", "SEND_MAIL_TO_ALL"),
        ("Sing a song", "PLAY"),
        ("SEND", None),
        ("SEND_MAIL_TO", None),
        ("PLAYER", None),
        ("PLAY SEND_MAIL", None),
        ("I would choose PLAY", None),
        ("POST", None),
        ("", None),
        ("...", None),
    ],
)
def test_an_answer_names_an_action_whole_or_not_at_all(answer: str, name: str | None) -> None:
    assert resolve(answer, THREE) == name


def test_the_answer_act_does_not_run_bench_act_0_as_it_did_in_elizaos() -> None:
    assert resolve("ACT", (Candidate("BENCH_ACT_0"), Candidate("BENCH_ACT_1"))) is None


async def chooser(answer: object) -> tuple[ModelRegistry, list[ChoiceRequest]]:
    asked: list[ChoiceRequest] = []

    async def handler(request: ChoiceRequest) -> object:
        asked.append(request)
        return answer

    registry = ModelRegistry()
    registry.register(CHOICE, handler, "mine")
    return registry, asked


async def test_a_model_is_asked_only_for_two_or_more_candidates_unless_always() -> None:
    registry, asked = await chooser(ChoiceReply(name=None, outcome="abstained"))
    nothing = await choose(registry, ChoiceRequest(text="x", candidates=()))
    only = await choose(registry, ChoiceRequest(text="x", candidates=(PLAY,)))
    assert (nothing.name, nothing.outcome) == (None, "empty")
    assert (only.name, only.outcome) == ("PLAY", "only")
    assert asked == []
    always = await choose(registry, ChoiceRequest(text="x", candidates=(PLAY,)), always=True)
    assert always.name is None and len(asked) == 1
    await choose(registry, ChoiceRequest(text="x", candidates=THREE))
    assert len(asked) == 2


async def test_a_plugins_choice_is_resolved_again_so_a_part_of_a_name_runs_nothing() -> None:
    registry, _ = await chooser(ChoiceReply(name="SEND", outcome="chosen", confidence=1.0))
    reply = await choose(registry, ChoiceRequest(text="x", candidates=THREE))
    assert (reply.name, reply.outcome, reply.answer) == (None, "unresolved", "SEND")
    registry, _ = await chooser(ChoiceReply(name="broadcast", outcome="chosen", confidence=1.0))
    assert (await choose(registry, ChoiceRequest(text="x", candidates=THREE))).name == "SEND_MAIL_TO_ALL"


async def test_a_choice_handler_that_returns_something_else_is_an_error() -> None:
    registry, _ = await chooser("PLAY")
    with pytest.raises(ModelError, match="ChoiceReply, not str"):
        await choose(registry, ChoiceRequest(text="x", candidates=THREE))


def test_an_action_becomes_a_candidate_with_its_examples_in_any_known_shape() -> None:
    async def handler(*_: object) -> str:
        return ""

    conversation = [
        {"user": "{{user1}}", "content": {"text": "play jazz"}},
        {"user": "{{agentName}}", "content": {"text": "with pleasure"}},
    ]
    action = Action(
        "PLAY", handler, "Plays.", ("SING",), ("play rock", conversation, {"examples": conversation}, 7)
    )
    assert candidate(action) == Candidate(
        "PLAY", "Plays.", ("SING",), ("play rock", "play jazz", "play jazz")
    )
