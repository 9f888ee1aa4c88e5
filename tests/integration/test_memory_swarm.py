"""The whole way of asks, tells, announcements and tasks, through the real coordinator, mailboxes and turns,
on the bus and store in memory. The same ways on NATS and Postgres, with real processes: test_up.py."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bus.errors import Failed, NobodyThere, Refused, TooLate
from swarm.agent.peers import Job
from swarm.components import Action, Message
from swarm.errors import NoAuthority, UnknownAgent
from swarm.plugin import Plugin
from swarm.testing import eventually
from tests.memory_swarm import memory_swarm


def noting(heard: list[str]) -> Plugin:
    async def note(message: Message) -> str:
        """Notes what it hears."""
        heard.append(message.text)
        return f"noted {message.text}"

    return Plugin("noting", actions=[Action("NOTE", note)])


async def test_an_ask_goes_through_the_coordinator_and_comes_straight_back() -> None:
    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", noting([]))
        reply = await swarm.ctl("ask", agent="reader", text="hello", timeout=5)
        assert reply["text"] == "noted hello"
        assert reply["from"] == "reader"


async def test_an_ask_to_nobody_known_names_the_near_ones_and_one_to_an_absent_agent_says_so() -> None:
    async with memory_swarm(["reader"]) as swarm:
        await eventually(lambda: swarm.coordinator and swarm.coordinator.active)
        with pytest.raises(Refused, match="did you mean reader"):
            await swarm.ctl("ask", agent="readr", text="hello", timeout=5)
        with pytest.raises(NobodyThere):
            await swarm.ctl("ask", agent="reader", text="hello", timeout=5)


async def test_an_ask_to_a_hung_agent_ends_at_its_deadline_and_to_one_that_dies_at_once() -> None:
    async def hang() -> None:
        """Hangs."""
        begun.append(1)
        await asyncio.Event().wait()

    begun: list[int] = []
    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("HANG", hang)]))
        with pytest.raises(TooLate):
            await swarm.ctl("ask", agent="reader", text="hello", timeout=0.3)
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(
                _error_of(swarm.ctl("ask", agent="reader", text="x", room="b", timeout=30))
            )
            await eventually(lambda: len(begun) == 2)
            await swarm.kill("reader")
        assert isinstance(asked.result(), Failed)


async def _error_of(work: Any) -> BaseException | None:
    try:
        await work
    except Exception as error:
        return error
    return None


async def test_b14_ten_messages_at_once_in_one_room_get_ten_answers_in_order() -> None:
    heard: list[str] = []
    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", noting(heard))
        asks = [swarm.ctl("ask", agent="reader", text=str(n), room="one", timeout=10) for n in range(10)]
        replies = await asyncio.gather(*asks)
    assert heard == [str(n) for n in range(10)]
    assert [reply["text"] for reply in replies] == [f"noted {n}" for n in range(10)]


async def test_mail_for_an_absent_agent_waits_and_is_handled_once_in_order_when_it_comes() -> None:
    heard: list[str] = []
    async with memory_swarm(["reader"]) as swarm:
        for n in range(5):
            await swarm.ctl("tell", agent="reader", text=str(n))
        assert (await swarm.ctl("inbox", agent="reader"))["waiting"] == 5
        await swarm.kill_coordinator()
        await swarm.coordinate()
        await swarm.start("reader", noting(heard))
        await swarm.ctl("tell", agent="reader", text="5")
        await eventually(lambda: len(heard) == 6)
        await eventually(lambda: all(row.state == "handled" for row in swarm.database.deliveries.values()))
    assert heard == [str(n) for n in range(6)]


async def test_what_an_instance_had_in_hand_when_it_died_is_done_by_the_next() -> None:
    heard: list[str] = []
    gate = asyncio.Event()

    async def stuck() -> None:
        """Is stuck."""
        await gate.wait()

    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("STUCK", stuck)]))
        await swarm.ctl("tell", agent="reader", text="a")
        await swarm.ctl("tell", agent="reader", text="b")
        await eventually(lambda: any(row.state == "dispatched" for row in swarm.database.deliveries.values()))
        await swarm.kill("reader")
        await swarm.start("reader", noting(heard))
        await eventually(lambda: len(heard) == 2)
    assert heard == ["a", "b"]


async def test_a_tell_inside_a_turn_is_sent_when_the_turn_commits_and_not_when_it_fails() -> None:
    heard: list[str] = []

    async def pass_on(message: Message, runtime: Any) -> str:
        """Passes on."""
        await runtime.peers.tell("scribe", f"re {message.text}")
        if message.text == "bad":
            raise ValueError("no")
        with pytest.raises(UnknownAgent, match="did you mean scribe"):
            await runtime.peers.tell("scribes", "x")
        return "ok"

    async with memory_swarm(["reader", "scribe"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("PASS", pass_on)]))
        await swarm.start("scribe", noting(heard))
        await swarm.ctl("ask", agent="reader", text="good", timeout=5)
        await eventually(lambda: heard == ["re good"])


async def test_an_announcement_reaches_everyone_but_its_sender_and_the_absent_later() -> None:
    heard: dict[str, list[str]] = {"a": [], "b": [], "c": []}
    async with memory_swarm(["a", "b", "c"]) as swarm:
        await swarm.start("a", noting(heard["a"]))
        await swarm.start("b", noting(heard["b"]))
        report = await swarm.ctl("announce", text="news", sender="a", wait=1.0)
        assert (report["recipients"], report["handled"], report["pending"]) == (2, 1, ["c"])
        await swarm.start("c", noting(heard["c"]))
        await eventually(lambda: heard == {"a": [], "b": ["news"], "c": ["news"]})


def parent_of(jobs: int, results: list[Any]) -> Plugin:
    async def survey(runtime: Any) -> str:
        """Surveys."""
        work = [Job(key=str(n), goal=f"note: {n}") for n in range(jobs)]
        async for task in runtime.peers.delegate_all("reader", work, in_flight=3):
            results.append(task)
        return f"{len(results)} done"

    return Plugin("parent", actions=[Action("SURVEY", survey)])


async def test_a_parent_delegates_to_its_replicas_and_gathers_every_result_once() -> None:
    results: list[Any] = []
    heard: list[str] = []
    async with memory_swarm() as swarm:
        await swarm.know("surveyor", control=True)
        await swarm.know("reader", parent="surveyor", replicas=2, balance="least-loaded")
        await swarm.start("surveyor", parent_of(10, results))
        await swarm.start("reader", noting(heard), slot=1)
        await swarm.start("reader", noting(heard), slot=2)
        task = await swarm.ctl("delegate", agent="surveyor", goal="survey: all", wait=True)
        assert task["state"] == "completed"
        assert sorted(heard, key=lambda t: int(t.split()[1])) == [f"note: {n}" for n in range(10)]
        assert len({one.id for one in results}) == 10
        assert all(one.state == "completed" for one in results)
        assert swarm.running["surveyor.1"].runtime.peers._endings == {}


async def test_a_turn_that_is_run_again_after_a_crash_finds_the_tasks_it_gave() -> None:
    heard: list[str] = []
    first: list[Any] = []
    second: list[Any] = []
    gate = asyncio.Event()

    async def slow(message: Message) -> str:
        """Notes slowly."""
        if len(heard) >= 4:
            await gate.wait()
        heard.append(message.text)
        return "done"

    async with memory_swarm() as swarm:
        await swarm.know("surveyor", control=True)
        await swarm.know("reader", parent="surveyor")
        await swarm.start("reader", Plugin("p", actions=[Action("NOTE", slow)]))
        await swarm.start("surveyor", parent_of(8, first))
        task = await swarm.ctl("delegate", agent="surveyor", goal="survey: all")
        await eventually(lambda: len(first) >= 2)
        await swarm.kill("surveyor")
        gate.set()
        await swarm.start("surveyor", parent_of(8, second))
        done = await eventually(lambda: _ended(swarm, task["id"]), seconds=20)
    assert done["state"] == "completed"
    assert sorted(heard) == [f"note: {n}" for n in range(8)]
    assert len({one.id for one in second}) == len(second) == 8


async def _ended(swarm: Any, id: str) -> Any:
    task = await swarm.ctl("task_show", id=id)
    return task if task["state"] in ("completed", "failed") else None


async def test_only_a_parent_may_delegate_and_the_refusal_is_the_sources_own_sentence() -> None:
    async with memory_swarm() as swarm:
        await swarm.know("surveyor", control=True)
        await swarm.know("herald", control=True)
        await swarm.know("reader", parent="surveyor")
        await swarm.start("reader", noting([]))
        with pytest.raises(Refused, match=r"^No authority over this agent$"):
            await swarm.ctl("delegate", agent="reader", goal="note: x", sender="herald")
        with pytest.raises(NoAuthority):
            await swarm.database.store("herald").delegate([_task("reader")])
        task = await swarm.ctl("delegate", agent="reader", goal="note: x", sender="surveyor", wait=True)
        assert task["state"] == "completed"


def _task(child: str) -> Any:
    from swarm.ids import new_id
    from swarm.records import NewTask

    return NewTask(id=new_id(), child=child, goal="x")


async def test_an_instance_that_is_stopped_hands_back_what_it_did_not_begin() -> None:
    heard: list[str] = []
    gate = asyncio.Event()

    async def slow(message: Message) -> str:
        """Notes slowly."""
        await gate.wait()
        heard.append(message.text)
        return "done"

    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("NOTE", slow)]))
        for n in range(5):
            await swarm.ctl("tell", agent="reader", text=str(n), room="one")
        await eventually(
            lambda: sum(row.state == "dispatched" for row in swarm.database.deliveries.values()) == 5
        )
        async with asyncio.TaskGroup() as group:
            ending = group.create_task(swarm.end("reader"))
            await eventually(
                lambda: sum(row.state == "accepted" for row in swarm.database.deliveries.values()) == 4
            )
            gate.set()
        assert ending.result() == 0
        assert heard == ["0"]
        await swarm.start("reader", noting(heard))
        await eventually(lambda: len(heard) == 5)
    assert heard == ["0", "1", "2", "3", "4"]


class Where(msgspec.Struct):
    path: str


async def test_a_task_whose_input_no_action_takes_fails_with_what_is_wrong_and_not_with_small_talk() -> None:
    async def read(options: Any) -> str:
        """Reads."""
        return str(options.parameters.path)

    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("READ", read, parameters=Where)]))
        task = await swarm.ctl("delegate", agent="reader", goal="please", input={"pth": "x"}, wait=True)
        assert task["state"] == "failed"
        assert "parameters of action READ are not right" in task["error"]
        task = await swarm.ctl("delegate", agent="reader", goal="please", input={"path": "x"}, wait=True)
        assert (task["state"], task["result"]["text"]) == ("completed", "x")
