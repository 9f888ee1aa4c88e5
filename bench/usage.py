"""What processes use, read from the kernel: CPU in nanoseconds, and memory that is their own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process that live; 0.0 when it is gone."""
    total = 0
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def children(pid: int) -> list[int]:
    """The pids of a process's own children (Postgres's backends are its postmaster's)."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def memory_mb(pid: int) -> dict[str, float]:
    """`pss`: own memory and the share of what is shared; `private`: own alone. MB of 2**20 bytes."""
    found: dict[str, float] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if rest.endswith("kB"):
            found[name] = int(rest.split()[0]) / 1024
    return {"pss": found["Pss"], "private": found["Private_Clean"] + found["Private_Dirty"]}


def started_at(pid: int) -> float:
    """When a process was started, in seconds of the machine's uptime (10 ms exact)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / 100


def uptime() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


class Meter:
    """The CPU seconds that groups of processes use between `start` and `stop`."""

    def __init__(self, **groups: Iterable[int]) -> None:
        self._groups = {name: tuple(pids) for name, pids in groups.items()}
        self._before = self._read()

    def start(self) -> None:
        self._before = self._read()

    def stop(self) -> dict[str, float]:
        after = self._read()
        return {name: after[name] - self._before[name] for name in after}

    def _read(self) -> dict[str, float]:
        return {name: sum(map(cpu_seconds, pids)) for name, pids in self._groups.items()}
