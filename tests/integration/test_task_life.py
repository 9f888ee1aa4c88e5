"""Tasks through the real coordinator and real instances, in one process: cancelling what runs, input, attempts.

Row F15, invariant I7. What is killed and what travels through real servers is in test_task_processes.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bus.errors import Refused
from swarm.agent.peers import Job
from swarm.components import Action
from swarm.errors import TryAgain
from swarm.plugin import Plugin
from swarm.testing import eventually, others_run
from tests.memory_swarm import MemorySwarm, memory_swarm


class Hanging:
    """A handler that runs until it is cancelled, and cleans up then."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cleaned = 0
        self.finished = 0

    async def hang(self) -> str:
        """Hangs."""
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await others_run()
            self.cleaned += 1
            raise
        self.finished += 1
        return "done"

    def plugin(self) -> Plugin:
        async def echo(message: Any) -> str:
            """Echoes."""
            return str(message.text)

        return Plugin("hanging", actions=[Action("HANG", self.hang), Action("ECHO", echo)])


async def state_of(swarm: MemorySwarm, id: str) -> Any:
    return await swarm.ctl("task_show", id=id)


async def ended(swarm: MemorySwarm, id: str) -> Any:
    task = await state_of(swarm, id)
    return task if task["state"] in ("completed", "failed", "canceled", "rejected") else None


async def test_f15_canceling_reaches_the_running_handler_and_its_agent_goes_on() -> None:
    hanging = Hanging()
    async with memory_swarm(["reader"]) as swarm:
        running = await swarm.start("reader", hanging.plugin())
        task = await swarm.ctl("delegate", agent="reader", goal="hang: on")
        await asyncio.wait_for(hanging.begun.wait(), 5)
        canceled = await swarm.ctl("task_cancel", id=task["id"], reason="enough")
        assert (canceled["state"], canceled["error"]) == ("canceled", "canceled by operator: enough")
        await eventually(lambda: hanging.cleaned == 1, seconds=3)
        mailbox = running.instance.mailbox
        await eventually(lambda: mailbox is not None and mailbox.in_flight == ())
        again = await swarm.ctl("task_cancel", id=task["id"])
        assert again["error"] == canceled["error"]
        assert await swarm.ctl("ask", agent="reader", text="echo: here", timeout=5)
        other = await swarm.ctl("delegate", agent="reader", goal="echo: still here", wait=True)
        assert other["state"] == "completed"
    assert hanging.finished == 0


async def test_f15_canceling_reaches_the_handlers_of_the_whole_tree() -> None:
    hanging = Hanging()
    left: list[str] = []

    async def pass_on(runtime: Any) -> str:
        """Passes on."""
        handle = await runtime.peers.delegate("helper", "hang: on")
        try:
            return str((await handle.result()).state)
        finally:
            left.append(handle.id)

    async with memory_swarm() as swarm:
        await swarm.know("reader", control=True)
        await swarm.know("helper", parent="reader")
        await swarm.start("reader", Plugin("p", actions=[Action("PASS", pass_on)]))
        await swarm.start("helper", hanging.plugin())
        task = await swarm.ctl("delegate", agent="reader", goal="pass: on")
        await asyncio.wait_for(hanging.begun.wait(), 5)
        await swarm.ctl("task_cancel", id=task["id"])
        await eventually(lambda: hanging.cleaned == 1 and left, seconds=3)
        shown = await state_of(swarm, task["id"])
        assert shown["state"] == "canceled"
        assert [(one["id"], one["state"]) for one in shown["subtasks"]] == [(left[0], "canceled")]
        assert swarm.running["reader.1"].runtime.peers._endings == {}


async def test_f15_the_giver_cancels_its_task_and_hears_of_it_by_its_handle() -> None:
    hanging = Hanging()
    heard: list[Any] = []

    async def change_mind(runtime: Any) -> str:
        """Changes its mind."""
        handle = await runtime.peers.delegate("reader", "hang: on")
        await hanging.begun.wait()
        await handle.cancel("changed my mind")
        heard.append(await handle.result())
        return "ok"

    async with memory_swarm() as swarm:
        await swarm.know("boss", control=True)
        await swarm.know("reader", parent="boss")
        await swarm.start("boss", Plugin("p", actions=[Action("MIND", change_mind)]))
        await swarm.start("reader", hanging.plugin())
        task = await swarm.ctl("delegate", agent="boss", goal="mind: it", wait=True)
        assert task["state"] == "completed"
        await eventually(lambda: hanging.cleaned == 1, seconds=3)
    assert (heard[0].state, heard[0].error) == ("canceled", "canceled by boss: changed my mind")


async def test_a_deadline_stops_the_running_handler_too() -> None:
    hanging = Hanging()
    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", hanging.plugin())
        task = await swarm.ctl("delegate", agent="reader", goal="hang: on", deadline=0.3, wait=True)
        assert (task["state"], task["error"]) == ("failed", "its deadline passed")
        await eventually(lambda: hanging.cleaned == 1, seconds=3)


async def test_a_word_of_a_cancelling_that_was_lost_is_said_again_also_by_the_next_coordinator() -> None:
    hanging = Hanging()
    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", hanging.plugin())
        task = await swarm.ctl("delegate", agent="reader", goal="hang: on")
        await asyncio.wait_for(hanging.begun.wait(), 5)
        await swarm.kill_coordinator()
        ledger = swarm.database.ledger()
        await eventually(lambda: ledger.take_lease("nobody", 0.01))
        await ledger.cancel("operator", task["id"])  # in the ledger alone: nobody says a word
        await swarm.coordinate()
        await eventually(lambda: hanging.cleaned == 1, seconds=5)


class City(msgspec.Struct):
    city: str
    days: int = 1


def planner(runs: list[str]) -> Plugin:
    async def plan(runtime: Any, options: Any) -> str:
        """Plans a journey."""
        runs.append(options.key)
        helped = await (await runtime.peers.delegate("helper", "echo: maps")).result(5)
        where = await runtime.peers.ask_input("Where to?")
        until = await runtime.peers.ask_input("For how long?", shape=City)
        return f"{helped.result.text}, {where.text}, {until.city} {until.days}"

    async def other() -> str:
        """Is something else."""
        return "no"

    return Plugin("planner", actions=[Action("PLAN", plan), Action("OTHER", other)])


async def test_f15_a_handler_asks_for_input_and_goes_on_where_it_was() -> None:
    runs: list[str] = []
    async with memory_swarm() as swarm:
        await swarm.know("reader", control=True)
        await swarm.know("helper", parent="reader")
        await swarm.start("reader", planner(runs))
        await swarm.start("helper", Hanging().plugin())
        task = await swarm.ctl("delegate", agent="reader", goal="plan: a journey")

        async def asked(question: str) -> Any:
            shown = await state_of(swarm, task["id"])
            return shown["state"] == "input-required" and shown["question"].startswith(question)

        await eventually(lambda: asked("Where to?"))
        listed = await swarm.ctl("task_ls", state="input-required")
        assert [one["id"] for one in listed] == [task["id"]]
        await swarm.end("reader")  # nothing of the question is in any process
        answered = await swarm.ctl("task_answer", id=task["id"], text="the sea")
        assert answered["state"] == "working"
        await swarm.start("reader", planner(runs))
        await eventually(lambda: asked("For how long?"))
        await swarm.ctl("task_answer", id=task["id"], data={"city": 7})
        await eventually(lambda: asked("For how long? (The last answer does not fit: "))
        await swarm.ctl("task_answer", id=task["id"], data={"city": "Brest", "days": 3})
        done = await eventually(lambda: ended(swarm, task["id"]))
        assert (done["state"], done["result"]["text"]) == ("completed", "echo: maps, the sea, Brest 3")
        assert (done["attempts"], done["failures"], len(done["subtasks"])) == (4, 0, 1)
        with pytest.raises(Refused, match="it asks for nothing"):
            await swarm.ctl("task_answer", id=task["id"], text="too late")
    assert len(runs) == 4 and len(set(runs)) == 1, "the key of its effects stays the same"


async def test_f15_waiting_for_a_task_ends_at_its_question_which_nobody_else_would_answer() -> None:
    """`swarm delegate --wait` sat there for an hour, and its user did not know that it was asked something."""
    async with memory_swarm() as swarm:
        await swarm.know("reader", control=True)
        await swarm.know("helper", parent="reader")
        await swarm.start("reader", planner([]))
        await swarm.start("helper", Hanging().plugin())
        asked = await swarm.ctl("delegate", agent="reader", goal="plan: it", wait=True, timeout=20.0)
        assert (asked["state"], asked["result"]) == ("input-required", None)
        assert asked["question"].startswith("Where to?")
        with pytest.raises(Refused, match="did you mean reader"):
            await swarm.ctl("task_ls", agent="raeder")
        assert [one["id"] for one in await swarm.ctl("task_ls", agent="operator")] == [asked["id"]]
        assert await swarm.ctl("task_ls", agent="reader", state="failed") == []


async def test_f15_a_giver_that_waits_answers_what_its_child_asks() -> None:
    async def ask(runtime: Any) -> str:
        """Asks."""
        return str((await runtime.peers.ask_input("Which colour?")).text)

    async def give(runtime: Any, message: Any) -> str:
        """Gives."""

        async def answer(task: Any) -> str:
            return f"red, {task.input['n']}"

        jobs = [Job(str(n), "ask: me", {"n": n}) for n in range(3)]
        async with runtime.peers.delegate_all("reader", jobs, in_flight=2, answer=answer) as gathering:
            told = sorted([task.result.text async for task in gathering])
        one = await runtime.peers.delegate("reader", "ask: once more", input={"n": 9})
        told.append((await one.result(10, answer=answer)).result.text)
        return "; ".join(told)

    async with memory_swarm() as swarm:
        await swarm.know("boss", control=True)
        await swarm.know("reader", parent="boss")
        await swarm.start("boss", Plugin("p", actions=[Action("GIVE", give)]))
        await swarm.start("reader", Plugin("q", actions=[Action("ASK", ask)]))
        task = await swarm.ctl("delegate", agent="boss", goal="give: it", wait=True, timeout=9.0)
        assert task["result"]["text"] == "red, 0; red, 1; red, 2; red, 9"


async def test_f15_an_attempt_that_may_succeed_next_time_goes_again_and_one_that_cannot_does_not() -> None:
    tries: list[int] = []

    async def flaky(message: Any) -> str:
        """Is flaky."""
        tries.append(message.attempt)
        if len(tries) < 3:
            raise TryAgain("the line is dead", after=0.01)
        return "at last"

    async def broken() -> str:
        """Is broken."""
        tries.append(0)
        raise ValueError("no such thing")

    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("FLAKY", flaky), Action("BROKEN", broken)]))
        task = await swarm.ctl("delegate", agent="reader", goal="flaky: it", wait=True)
        assert (task["state"], task["result"]["text"], tries) == ("completed", "at last", [1, 2, 3])
        tries.clear()
        task = await swarm.ctl("delegate", agent="reader", goal="flaky: it", max_attempts=2, wait=True)
        assert (task["state"], task["error"], task["attempts"]) == ("failed", "the line is dead", 2)
        tries.clear()
        task = await swarm.ctl("delegate", agent="reader", goal="broken: it", wait=True)
        assert (task["state"], tries) == ("failed", [0])
        again = await swarm.ctl("task_retry", id=task["id"])
        assert again["retry_of"] == task["id"]
        assert (await eventually(lambda: ended(swarm, again["id"])))["state"] == "failed"


async def test_delegate_all_keeps_its_bound_and_leaving_it_early_cancels_the_rest() -> None:
    at_once = 0
    most = 0
    gate = asyncio.Event()
    stopped: list[int] = []

    async def work(message: Any) -> str:
        """Works."""
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            if message.given["n"] == 0:
                await gate.wait()
            return "ok"
        except asyncio.CancelledError:
            stopped.append(message.given["n"])
            raise
        finally:
            at_once -= 1

    async def survey(runtime: Any) -> str:
        """Surveys."""
        seen = 0
        async with runtime.peers.delegate_all(
            "reader", [Job(str(n), f"work: {n}", {"n": n}) for n in range(20)], in_flight=3
        ) as gathering:
            async for _ in gathering:
                seen += 1
                if seen == 4:
                    break
        return str(seen)

    async with memory_swarm() as swarm:
        await swarm.know("boss", control=True)
        await swarm.know("reader", parent="boss")
        await swarm.start("boss", Plugin("p", actions=[Action("SURVEY", survey)]))
        await swarm.start("reader", Plugin("q", actions=[Action("WORK", work)]))
        task = await swarm.ctl("delegate", agent="boss", goal="survey: it", wait=True)
        assert task["result"]["text"] == "4"
        shown = await state_of(swarm, task["id"])
        states = {one["input"]["n"]: one["state"] for one in shown["subtasks"]}
        assert states[0] == "canceled" and list(states.values()).count("completed") >= 4
        assert len(states) <= 7, "no more were given than the bound allows"
        await eventually(lambda: at_once == 0)
        assert 0 in stopped
    assert most <= 3


async def test_progress_is_written_at_a_bounded_rate_and_the_last_of_it_always() -> None:
    written: list[float] = []

    async def count(runtime: Any) -> str:
        """Counts."""
        report = runtime.adapter.report

        async def counting(task: str, attempt: int, percent: float, note: str) -> bool:
            written.append(percent)
            return bool(await report(task, attempt, percent, note))

        runtime.adapter.report = counting
        for n in range(1000):
            assert await runtime.peers.progress(n / 10, f"{n}" * 400)
        return "done"

    async with memory_swarm(["reader"]) as swarm:
        await swarm.start("reader", Plugin("p", actions=[Action("COUNT", count)]))
        task = await swarm.ctl("delegate", agent="reader", goal="count: it", wait=True)
        shown = await state_of(swarm, task["id"])
    assert shown["progress"] == 99.9 and len(shown["note"]) == 500
    assert len(written) < 20 and written[-1] == 99.9


async def test_watching_a_task_tells_each_change_once_and_its_end() -> None:
    gate = asyncio.Event()

    async def work(runtime: Any) -> str:
        """Works."""
        await runtime.peers.progress(50, "half")
        await gate.wait()
        return "done"

    async with memory_swarm(["reader"]) as swarm:
        task = await swarm.ctl("delegate", agent="reader", goal="work: it")
        first = await swarm.ctl("task_watch", id=task["id"])
        assert first["state"] == "submitted"
        await swarm.start("reader", Plugin("p", actions=[Action("WORK", work)]))
        seen, mark = [], first["mark"]
        while not seen or seen[-1] != ("completed", 50.0):
            told = await swarm.ctl("task_watch", id=task["id"], seen=mark)
            assert told["mark"] != mark
            mark = told["mark"]
            seen.append((told["state"], told["progress"]))
            if told["progress"] == 50.0:
                gate.set()
    assert ("working", 50.0) in seen and len(seen) <= 3
