"""A slot keeps one instance running as long as it is wanted: restarts, quarantine, drain, new generations."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from deploy.restarts import RestartBudget
from deploy.slot import Slot
from deploy.zygote import Exited
from swarm.protocol import Placement
from swarm.testing import eventually, others_run

READER = Placement(agent="reader", agent_id="id", slot=1, source="agents/reader")


class Processes:
    """Instances without processes: `end` says how the living one ended, `obey` which signals end it."""

    def __init__(self, obey: frozenset[int] = frozenset({signal.SIGTERM})) -> None:
        self.started: list[tuple[str, int]] = []
        self.signals: list[int] = []
        self.crashed: list[bool] = []
        self.obey = obey
        self._gone: asyncio.Future[Exited] | None = None
        self._name = ""

    async def fork(
        self, placement: Placement, instance: str, log_file: Path
    ) -> tuple[int, asyncio.Future[Exited]]:
        self.started.append((instance, placement.generation))
        self._name, self._gone = f"{placement.agent}/{instance}", asyncio.get_running_loop().create_future()
        return 100 + len(self.started), self._gone

    def end(self, code: int = 0, killed: int = 0) -> None:
        assert self._gone is not None
        self._gone.set_result(Exited(100 + len(self.started), self._name, code, killed, 0.0, 0))

    def signal(self, pid: int, number: int, *, group: bool = False) -> None:
        assert pid == 100 + len(self.started)
        self.signals.append(number)
        if number in self.obey:
            self.end(killed=number if number == signal.SIGKILL else 0)

    def changed(self, slot: Slot, exited: Exited | None = None, crashed: bool = False) -> None:
        if exited is not None:
            self.crashed.append(crashed)

    async def settled(self) -> None:
        return


@asynccontextmanager
async def running(processes: Processes, tmp_path: Path, drain: float = 5.0) -> AsyncIterator[Slot]:
    slot = Slot(READER, tmp_path / "reader-1.log", processes, drain, RestartBudget(first_wait=0.001))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(slot.run())
        await eventually(lambda: slot.status == "running")
        yield slot
        processes.obey = frozenset({signal.SIGTERM, signal.SIGKILL})
        slot.want(None)
        await asyncio.wait_for(task, 5)


async def test_a_crashed_instance_is_started_again_under_a_new_name(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        processes.end(killed=signal.SIGKILL)
        await eventually(lambda: len(processes.started) == 2 and slot.status == "running")
        assert processes.crashed == [True]
        assert processes.started[0][0] != processes.started[1][0]
        assert slot.snapshot().restarts == 1
        assert "SIGKILL" in slot.reason


async def test_five_crashes_quarantine_it_with_the_last_line_of_its_log(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        (tmp_path / "reader-1.log").write_text("starting\nRuntimeError: no battery\n")
        for number in range(1, 6):
            await eventually(
                lambda number=number: len(processes.started) == number and slot.status == "running"
            )
            processes.end(code=1)
        await eventually(lambda: slot.status == "quarantined")
        assert slot.snapshot().reason == "exit code 1: RuntimeError: no battery"
        slot.want(Placement(agent="reader", agent_id="id", slot=1, source="agents/reader", generation=1))
        await eventually(lambda: slot.status == "running")
        assert slot.snapshot().restarts == 0


async def test_bad_configuration_is_not_tried_again(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        processes.end(code=78)
        await eventually(lambda: slot.status == "quarantined")
        assert len(processes.started) == 1 and "bad configuration" in slot.reason


async def test_a_dependency_that_is_down_is_no_crash(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        for number in range(1, 8):
            await eventually(
                lambda number=number: len(processes.started) == number and slot.status == "running"
            )
            processes.end(code=69)
        await eventually(lambda: len(processes.started) == 8 and slot.status == "running")
        assert not any(processes.crashed)


async def test_a_new_generation_drains_the_old_instance_first(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        slot.want(Placement(agent="reader", agent_id="id", slot=1, source="agents/reader", generation=3))
        await eventually(lambda: len(processes.started) == 2)
        assert processes.signals == [signal.SIGTERM]
        assert [generation for _, generation in processes.started] == [0, 3]
        assert processes.crashed == [False]


async def test_the_same_wish_again_changes_nothing(tmp_path: Path) -> None:
    processes = Processes()
    async with running(processes, tmp_path) as slot:
        slot.want(Placement(agent="reader", agent_id="id", slot=1, source="agents/elsewhere"))
        await others_run()
        assert slot.status == "running" and processes.signals == []


async def test_a_drain_asks_twice_and_then_kills_and_hurrying_skips_the_waiting(tmp_path: Path) -> None:
    processes = Processes(obey=frozenset({signal.SIGKILL}))
    async with running(processes, tmp_path, drain=1000.0) as slot:
        slot.want(None)
        await eventually(lambda: processes.signals == [signal.SIGTERM])
        slot.hurry()
        await eventually(lambda: processes.signals == [signal.SIGTERM, signal.SIGTERM])
        slot.hurry()
        await eventually(lambda: processes.signals == [signal.SIGTERM, signal.SIGTERM, signal.SIGKILL])


async def test_wanted_again_while_it_drains_it_starts_anew_afterwards(tmp_path: Path) -> None:
    processes = Processes(obey=frozenset())
    async with running(processes, tmp_path) as slot:
        slot.want(None)
        await eventually(lambda: slot.status == "draining")
        slot.want(READER)
        processes.end(code=0)
        await eventually(lambda: len(processes.started) == 2 and slot.status == "running")


async def test_i13_an_instance_that_is_unresponsive_says_where_it_stands_and_is_replaced(
    tmp_path: Path,
) -> None:
    """A frozen one does not hear SIGABRT, and is killed; and that counts as its crash."""
    processes = Processes(obey=frozenset({signal.SIGKILL}))
    async with running(processes, tmp_path) as slot:
        await eventually(lambda: slot.status == "running")
        slot.unresponsive("reader", "1-who-was-here-before")
        slot.unresponsive("writer", slot.instance)
        await others_run()
        assert processes.signals == []
        slot.unresponsive("reader", slot.instance)
        await eventually(lambda: len(processes.started) == 2, what="another one")
        assert processes.signals == [signal.SIGABRT, signal.SIGKILL]
        assert processes.crashed == [True] and slot.restarts == 1
        processes.obey = frozenset({signal.SIGTERM})
