"""Does what the schedule says, one fault after the other, and measures how long the swarm needs after each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence

from bus.errors import BusError
from swarm.client import Swarm
from swarm.errors import SwarmError
from tests.faults.battery.cast import AGENTS, PLAIN
from tests.faults.battery.house import House
from tests.faults.battery.schedule import Fault
from tests.faults.battery.workload import Workload

RECOVERY_BOUND = 60.0
FILLING = 30


class Nemesis:
    def __init__(self, house: House, swarm: Swarm, workload: Workload) -> None:
        self._house = house
        self._swarm = swarm
        self._workload = workload
        self._note = house.recorder.note

    async def run(self, schedule: Sequence[Fault], until: float) -> None:
        """Until the schedule ends, or the monotonic clock says so."""
        for number, fault in enumerate(schedule):
            await asyncio.sleep(fault.after)
            if time.monotonic() > until:
                return
            self._note("fault", number=number, kind=fault.kind, seconds=fault.seconds)
            try:
                victim = await self._do(fault)
            except (BusError, SwarmError, OSError) as error:
                self._note("unfit", number=number, kind=fault.kind, error=str(error))
                victim = None
            finally:
                self._heal()
            began = time.monotonic()
            await self._recovered(victim or PLAIN[int(fault.pick * len(PLAIN))])
            self._note(
                "recovered", number=number, kind=fault.kind, seconds=round(time.monotonic() - began, 3)
            )

    async def _recovered(self, agent: str) -> None:
        until = time.monotonic() + RECOVERY_BOUND
        while not await self._workload.ask(agent, timeout=2.0):
            if time.monotonic() > until:
                self._note("alive", agent=agent, answers=False)
                return
            await asyncio.sleep(0.05)

    def _heal(self) -> None:
        self._house.nats_wire.heal()
        self._house.postgres_wire.heal()

    async def _do(self, fault: Fault) -> str | None:
        """The agent that was hit, if it was one."""
        what, _, rest = fault.kind.partition("_")
        match fault.kind:
            case "kill_agent" | "stop_agent":
                name, pid = await self._victim(fault.pick)
                await self._signal([pid], fault.seconds)
                return name
            case "kill_coordinator" | "pause_coordinator":
                await self._signal(await self._leader(), fault.seconds)
            case "kill_node":
                await self._signal(self._house.pids("node"), fault.seconds)
            case "restart_nats":
                self._house.kill_nats()
            case "restart_postgres":
                self._house.kill_postgres()
            case "poison":
                await self._workload.tell("goat", "poison: it", "poison", {})
            case "raise":
                await self._workload.tell("goat", "spoil: it", "spoil", {})
            case "loop":
                await self._workload.tell(PLAIN[int(fault.pick * len(PLAIN))], "thank: me", "thanks", {})
            case "fill":
                await self._fill()
            case _ if what == "part":
                return await self._part(rest, fault)
            case _:
                wire = self._house.nats_wire if rest.endswith("nats") else self._house.postgres_wire
                match what:
                    case "hang":
                        wire.hang_up()
                    case "swallow":
                        wire.swallow()
                    case "delay":
                        wire.delay(0.05 + 0.3 * fault.pick)
                    case "stall":
                        wire.stall()
                    case _:
                        raise LookupError(f"there is no fault {fault.kind}")
                await asyncio.sleep(fault.seconds)
        return None

    async def _part(self, rest: str, fault: Fault) -> str | None:
        who, _, server = rest.partition("_from_")
        name: str | None = None
        if who == "agent":
            name, pid = await self._victim(fault.pick)
            pids = [pid]
        else:
            pids = await self._leader()
        for wire, kind in ((self._house.nats_wire, "nats"), (self._house.postgres_wire, "postgres")):
            if server in (kind, "both"):
                wire.part(pids)
        await asyncio.sleep(fault.seconds)
        return name

    async def _victim(self, pick: float) -> tuple[str, int]:
        rows = sorted(
            (row["name"], row["instance"], row["pid"])
            for row in await self._swarm.ps()
            if row["pid"] and row["name"] != "goat"
        )
        if not rows:
            raise ProcessLookupError("there is no instance to hit")
        name, _, pid = rows[int(pick * len(rows))]
        return name, pid

    async def _leader(self) -> list[int]:
        """The active coordinator's pid; both when it cannot be told."""
        said = str((await self._swarm.ping())["coordinator"])
        pids = self._house.pids("coordinator")
        return [pid for pid in pids if str(pid) in said] or pids

    async def _signal(self, pids: list[int], stopped: float) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP if stopped else signal.SIGKILL)
        await asyncio.sleep(stopped)
        for pid in pids if stopped else ():
            with contextlib.suppress(ProcessLookupError):  # its node has replaced it meanwhile
                os.kill(pid, signal.SIGCONT)

    async def _fill(self) -> None:
        await self._swarm.stop("tiny")
        try:
            async with asyncio.TaskGroup() as hands:
                for _ in range(FILLING):
                    hands.create_task(self._workload.tell("tiny", "take: it", "filling", {}))
        finally:
            await self._swarm.start("tiny")

    async def restore(self) -> None:
        """Whatever was done to the agents' wanted state is undone, as an operator would."""
        for agent in AGENTS:
            for _ in range(50):
                try:
                    await self._swarm.start(agent, timeout=5.0)
                    await self._swarm.resume(agent, timeout=5.0)
                    break
                except (BusError, SwarmError):
                    await asyncio.sleep(0.3)
