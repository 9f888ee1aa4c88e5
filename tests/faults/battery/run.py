"""One run: draw, write down, do, heal, wait until nothing is pending, collect, check, report."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swarm.client import Swarm
from tests.faults.battery import schedule
from tests.faults.battery.cast import AGENTS, CONVERSATION, PLAIN, SECRET
from tests.faults.battery.checker import check
from tests.faults.battery.evidence import Evidence
from tests.faults.battery.house import House
from tests.faults.battery.nemesis import Nemesis
from tests.faults.battery.workload import Workload

QUIET_BOUND = 90.0
"""Seconds within which nothing may be pending any more, once all has healed."""


@dataclass
class Report:
    seed: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    unfit: int = 0
    account: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    asks: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    order_violations: int = 0
    recovery_p50: float = 0.0
    recovery_p99: float = 0.0
    recovery_worst: str = ""
    quiet_after: float = 0.0
    violations: dict[str, list[str]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.violations

    def lines(self) -> list[str]:
        account = ", ".join(f"{count} {what}" for what, count in self.account.items())
        shown = [
            f"seed {self.seed}, {self.seconds:.0f} s: {sum(self.faults.values())} faults, {account}",
            "  faults    " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items())),
            f"  tasks     {self.tasks}   asks {self.asks}",
            f"  recovery  p50 {self.recovery_p50:.2f} s, p99 {self.recovery_p99:.2f} s ({self.recovery_worst});"
            f" quiet after {self.quiet_after:.1f} s",
            f"  {self.duplicates} duplicates, {self.order_violations} order violations",
        ]
        for name, wrong in self.violations.items():
            shown.append(f"  {name}: {len(wrong)} × e.g. {wrong[0]}")
        return shown


async def run(
    folder: Path,
    seed: int,
    seconds: float,
    *,
    pace: float = 0.25,
    kinds: Sequence[str] = (),
    mutation: str = "",
    quiet_bound: float = QUIET_BOUND,
) -> Report:
    """Leaves schedule.json, events.jsonl, evidence.json and report.json in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    faults = schedule.draw(seed, seconds, tuple(kinds))
    schedule.write(folder / "schedule.json", seed, faults)
    house = House(folder)
    house.recorder.note("limits", conversation=CONVERSATION)
    async with house.open():
        if mutation:
            await house.audit.mutate(mutation)
        async with Swarm.connect(house.running.project, wait=20.0) as swarm:
            quiet_after = await _play(house, swarm, faults, seed, seconds, pace, quiet_bound)
        for agent in AGENTS:
            house.recorder.note("read", agent=agent, of=await house.audit.readable(house.login(agent)))
        await _search(house)
        evidence = await house.audit.collect([])
    evidence.events = house.recorder.events()
    house.recorder.close()
    evidence.save(folder / "evidence.json")
    report = report_of(evidence, seed, seconds)
    report.quiet_after = quiet_after
    (folder / "report.json").write_text(json.dumps(vars(report), indent=1) + "\n")
    return report


async def _play(
    house: House,
    swarm: Swarm,
    faults: list[schedule.Fault],
    seed: int,
    seconds: float,
    pace: float,
    quiet_bound: float,
) -> float:
    workload = Workload(swarm, house.recorder, seed, pace)
    nemesis = Nemesis(house, swarm, workload)
    async with asyncio.TaskGroup() as group:
        work = group.create_task(workload.run())
        accounts = group.create_task(_accounts(house))
        await nemesis.run(faults, time.monotonic() + seconds)
        began = time.monotonic()
        workload.over.set()
        await nemesis.restore()
        await work
        pending = await _quiet(house, began, quiet_bound)
        seconds = round(time.monotonic() - began, 2)
        house.recorder.note("quiet", pending=pending, seconds=seconds, bound=quiet_bound)
        for agent in PLAIN:
            answers = any([await workload.ask(agent) for _ in range(3)])
            house.recorder.note("alive", agent=agent, answers=answers)
        over = await house.audit.epoch() - 1
        house.recorder.note("deposed", epoch=over, wrote=await house.audit.deposed_writes(over))
        accounts.cancel()
    house.recorder.note("account", **await house.audit.account())
    return seconds


async def _accounts(house: House) -> None:
    """What is in the ledger at an instant, asked past the proxies; not while Postgres is away."""
    while True:
        try:
            house.recorder.note("account", **await house.audit.account())
        except Exception as error:
            house.recorder.note("no account", error=type(error).__name__)
        await asyncio.sleep(1.0)


async def _quiet(house: House, began: float, bound: float) -> int:
    while True:
        try:
            pending = (await house.audit.account())["pending"] + await house.audit.open_tasks()
        except OSError:
            pending = -1
        if not pending or time.monotonic() - began > bound:
            return int(pending)
        await asyncio.sleep(0.3)


async def _search(house: House) -> None:
    for table in await house.audit.search(SECRET):
        house.recorder.note("leak", where=f"table {table}")
    files = [*house.running.project.logs.glob("**/*"), house.recorder.file]
    for file in files:
        if file.is_file() and SECRET.encode() in file.read_bytes():
            house.recorder.note("leak", where=str(file.name))


def report_of(evidence: Evidence, seed: int, seconds: float) -> Report:
    violations = check(evidence)
    recovered = sorted(evidence.of("recovered"), key=lambda event: event["seconds"])
    times = [event["seconds"] for event in recovered]
    account: dict[str, Any] = evidence.of("account")[-1] if evidence.of("account") else {}
    return Report(
        seed=seed,
        seconds=seconds,
        faults=dict(Counter(event["kind"] for event in evidence.of("fault"))),
        unfit=len(evidence.of("unfit")),
        account={name: count for name, count in account.items() if name not in ("t", "what")},
        tasks=dict(Counter(task["state"] for task in evidence.tasks)),
        asks=dict(Counter(event["how"] for event in evidence.of("ask.end"))),
        duplicates=len(violations.get("I2", [])),
        order_violations=len(violations.get("I3", [])),
        recovery_p50=times[len(times) // 2] if times else 0.0,
        recovery_p99=times[min(len(times) - 1, int(len(times) * 0.99))] if times else 0.0,
        recovery_worst=recovered[-1]["kind"] if recovered else "",
        violations=violations,
    )
