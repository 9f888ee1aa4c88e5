"""X2: is the agent meant? Direct, group, muted and followed rooms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from swarm.agent.deciding import manners_of
from swarm.agent.hand import MessageResult
from swarm.agent.runtime import AgentRuntime
from swarm.components import Action, Message
from swarm.ids import new_id
from swarm.plugin import Plugin
from swarm.records import Content
from swarm.testing import ScriptedModel, agent


def ada(respond: Mapping[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "Ada", "bio": "Counts.", "settings": {"respond": dict(respond or {})}, **fields}


async def hear(
    runtime: AgentRuntime,
    text: str,
    room: str = "group:lab",
    kind: str = "ask",
    metadata: Mapping[str, Any] | None = None,
    in_reply_to: str | None = None,
) -> MessageResult:
    content = Content(text=text, metadata=dict(metadata or {}))
    return await runtime.process_message(
        Message(
            id=new_id(),
            sender="bob",
            room=room,
            kind=kind,
            content=content,
            received_at=int(time.time() * 1000),
            in_reply_to=in_reply_to,
        )
    )


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("what is new?", False),
        ("Ada, what is new?", True),
        ("thanks @ada!", True),
        ("Adam, what is new?", False),
        ("is it canada?", False),
    ],
)
async def test_x2_in_a_group_a_mention_by_whole_name_calls_for_an_answer(text: str, answers: bool) -> None:
    async with agent(ada()) as runtime:
        assert ((await hear(runtime, text)).response is not None) is answers


async def test_x2_a_direct_ask_is_answered_a_tell_never_and_the_reason_is_told() -> None:
    told: list[dict[str, Any]] = []
    async with agent(ada()) as runtime:
        runtime.events.on("decision:made", told.append)
        assert (await hear(runtime, "hi", room="direct:ada:bob")).response is not None
        assert (await hear(runtime, "hi", room="direct:ada:bob", kind="tell")).response is None
        assert (await hear(runtime, "Ada, hi", kind="tell")).response is None
    assert [(one["attends"], one["responds"], one["why"]) for one in told] == [
        (True, True, "direct"), (True, False, "direct"), (True, False, "mentioned"),
    ]  # fmt: skip


async def test_x2_a_reply_to_the_agent_is_answered_and_one_to_another_is_not() -> None:
    async with agent(ada()) as runtime:
        mine = await hear(runtime, "and then?", in_reply_to=new_id())
        others = await hear(runtime, "and then?", in_reply_to=new_id(), metadata={"reply_to": "bob"})
    assert mine.response is not None
    assert others.response is None


async def test_x2_metadata_makes_a_group_and_mentions_by_it_count() -> None:
    async with agent(ada()) as runtime:
        quiet = await hear(runtime, "hi", room="r", metadata={"group": True})
        called = await hear(runtime, "hi", room="r", metadata={"group": True, "mentions": ["Ada"]})
    assert quiet.response is None
    assert called.response is not None


async def test_x2_muted_rooms_need_a_mention_and_followed_ones_do_not() -> None:
    manners = {"muted": ["group:noise*", "direct:loud"], "followed": ["group:ops"]}
    async with agent(ada(manners)) as runtime:
        heard = [
            (await hear(runtime, text, room=room)).response is not None
            for text, room in [
                ("hi", "group:noise-1"), ("hi", "direct:loud"), ("Ada?", "group:noise-1"), ("hi", "group:ops"),
            ]
        ]  # fmt: skip
    assert heard == [False, False, True, True]


async def test_x2_an_agent_that_is_not_meant_remembers_but_does_nothing() -> None:
    ran: list[str] = []

    async def act() -> str:
        """Acts."""
        ran.append("x")
        return "done"

    async with agent(ada(), Plugin("p", actions=[Action("ACT", act)])) as runtime:
        assert (await hear(runtime, "act on it", kind="tell")).actions == ()
        assert await runtime.store.count_memories() == 1
    assert ran == []


@pytest.mark.parametrize(
    ("said", "answers"), [("RESPOND", True), ("IGNORE", False), ("I would RESPOND", False)]
)
async def test_x2_the_small_model_decides_by_one_plain_word(said: str, answers: bool) -> None:
    model = ScriptedModel(texts=[said, "an answer"])
    async with agent(ada({"group": "model"}), model.plugin()) as runtime:
        assert ((await hear(runtime, "who can count?")).response is not None) is answers


async def test_x2_a_model_that_is_down_means_no_answer_and_the_message_is_handled() -> None:
    async with agent(ada({"group": "model"}), ScriptedModel().plugin()) as runtime:
        result = await hear(runtime, "who can count?")
        assert runtime.metrics.failures["model respond"] == 1
    assert (result.status, result.response) == ("handled", None)


async def test_x2_topics_can_be_the_rule() -> None:
    async with agent(ada({"group": "topics"}, topics=["sums"])) as runtime:
        assert (await hear(runtime, "who does sums?")).response is not None
        assert (await hear(runtime, "who does cooking?")).response is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("loud", "respond must be a mapping"),
        ({"group": "sometimes"}, "respond.group is 'sometimes'"),
        ({"muted": 7}, "respond.muted must be a list of texts, not 7"),
        ({"mutd": ["group:noise"]}, "there is no setting respond.mutd; did you mean muted?"),
    ],
)
def test_x2_settings_that_make_no_sense_are_said_and_left_out(
    given: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert manners_of(given) == manners_of({}) == manners_of(None)
    assert said in caplog.text
