"""B12 and D10, D11: a whole turn in its order, and what it knows when it acts."""

from typing import Any

import msgspec

from swarm import Action, AgentRuntime, Evaluator, Plugin, Provider
from swarm.agent.hand import MessageResult
from swarm.components import Message
from swarm.records import Committed, Turn
from swarm.stores.memory import MemoryDatabase
from swarm.testing import agent, eventually, say


async def test_b12_a_turn_goes_through_its_steps_in_order_and_returns_its_result() -> None:
    trace: list[str] = []

    async def before(message: Message) -> Message:
        trace.append("before")
        content = msgspec.structs.replace(message.content, text=f"{message.text} marked")
        return msgspec.structs.replace(message, content=content)

    async def known() -> str:
        trace.append("state")
        return "known"

    async def act(message: Message, state: Any) -> str:
        """Acts."""
        trace.append("act")
        return f"{message.text}, {state.providers['KNOWN']['text']}"

    async def after(response: Any) -> None:
        trace.append("after")

    async def look(response: Any) -> None:
        trace.append("evaluate")

    plugin = Plugin(
        "p",
        before_message=before,
        after_message=after,
        providers=[Provider("KNOWN", known)],
        actions=[Action("ACT", act)],
        evaluators=[Evaluator("LOOK", look)],
    )
    async with agent("Ada", plugin) as runtime:
        commit = runtime.adapter.commit

        async def committed(turn: Turn) -> Committed:
            if turn.memories and turn.memories[0].kind == "message":
                trace.append("commit " + " and ".join(memory.content.text for memory in turn.memories))
            return await commit(turn)

        runtime.adapter.commit = committed  # type: ignore[method-assign]
        for event in ("decision:made", "choice:made"):
            runtime.events.on(event, lambda fields, event=event: trace.append(event.partition(":")[0]))
        result = await say(runtime, "act: now")
        assert isinstance(result, MessageResult) and result.status == "handled"
        assert result.response is not None and result.response.text == "act: now marked, known"
        await eventually(lambda: "evaluate" in trace)
    assert trace == [
        "before",
        "state",
        "decision",
        "choice",
        "act",
        "commit act: now marked and act: now marked, known",
        "after",
        "evaluate",
    ]


async def test_d10_state_has_exactly_its_five_parts_and_four_facts_of_the_message() -> None:
    seen: list[Any] = []

    async def look(state: Any) -> None:
        """Looks."""
        seen.append(state)

    async def known() -> str:
        return "four"

    plugin = Plugin("p", actions=[Action("LOOK", look)], providers=[Provider("KNOWN", known)])
    async with agent("Ada", plugin) as runtime:
        await say(runtime, "look: now", room="hall", sender="ben")
    (state,) = seen
    assert set(state.__slots__) == {"messages", "facts", "providers", "context", "metadata"}
    assert state.context == "\n[KNOWN]\nfour\n"
    assert state.providers == {"KNOWN": {"text": "four", "data": {}}}
    timestamp, tokens = state.metadata["timestamp"], state.metadata["tokenCount"]
    assert state.metadata == {
        "roomId": "hall",
        "entityId": "ben",
        "timestamp": timestamp,
        "tokenCount": tokens,
    }
    assert isinstance(timestamp, int) and tokens > 0


async def test_d11_nothing_of_another_agents_same_room_is_seen_on_one_database() -> None:
    seen: dict[str, list[str]] = {}
    database = MemoryDatabase()

    def looking(name: str) -> AgentRuntime:
        async def look(state: Any) -> str:
            """Looks."""
            seen[name] = [memory.content.text for memory in state.messages]
            return "seen"

        database.add_agent(name, name)
        plugin = Plugin("p", actions=[Action("LOOK", look)])
        return AgentRuntime({"name": name, "bio": "looks"}, database.store(name), [plugin], name=name)

    ada, ben = looking("ada"), looking("ben")
    for runtime in (ada, ben):
        await runtime.initialize()
    await say(ada, "look: ada's", room="shared")
    await say(ben, "look: ben's", room="shared")
    await say(ada, "look: again", room="shared")
    for runtime in (ada, ben):
        await runtime.stop()
    assert seen == {"ada": ["look: ada's", "seen", "look: again"], "ben": ["look: ben's"]}
