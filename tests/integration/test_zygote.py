"""The warm parent with real processes: what a child is, how it ends, and that nothing is left of anything."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from ast import literal_eval
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from deploy.processes import ProcessId, find_strays
from deploy.zygote import Exited, Zygote, ZygoteFailed
from swarm.testing import eventually

ENTRIES = "tests.integration.zygote_entries"
ROOT = Path(__file__).parents[2]


class Exits(list[Exited]):
    async def of(self, name: str) -> Exited:
        await eventually(lambda: any(exit.name == name for exit in self), what=f"the end of {name}")
        return next(exit for exit in self if exit.name == name)


@asynccontextmanager
async def warm(
    folder: Path, preload: tuple[str, ...] = (ENTRIES,), grace: float = 5.0
) -> AsyncIterator[tuple[Zygote, Exits]]:
    exits = Exits()
    zygote = await Zygote.start(preload=preload, on_exit=exits.append, log_file=folder / "zygote.log")
    try:
        yield zygote, exits
    finally:
        await zygote.stop(grace=grace)
        assert find_strays(zygote.mark) == []


async def fork(zygote: Zygote, folder: Path, name: str, spec: bytes | None = None) -> int:
    return await zygote.fork(
        f"{ENTRIES}:{name}",
        spec if spec is not None else str(folder / name).encode(),
        name=name,
        log_file=folder / f"{name}.log",
        environment={"GREETING": f"hello {name}"},
    )


async def test_exit_codes_signals_and_use_of_children_are_told(tmp_path: Path) -> None:
    async with warm(tmp_path) as (zygote, exits):
        pid = await fork(zygote, tmp_path, "returns", b"75")
        ended = await exits.of("returns")
        assert (ended.pid, ended.code, ended.signal) == (pid, 75, 0)
        assert ended.memory > 1_000_000
        await fork(zygote, tmp_path, "raises", b"of mine")
        assert (await exits.of("raises")).code == 1
        assert "a handler's fault of mine" in (tmp_path / "raises.log").read_text()
        await fork(zygote, tmp_path, "missing")
        assert (await exits.of("missing")).code == 1
        assert "AttributeError" in (tmp_path / "missing.log").read_text()
        await fork(zygote, tmp_path, "sleeps")
        await eventually((tmp_path / "sleeps").exists, what="the child runs")
        assert len(zygote.living) == 1
        zygote.signal(next(iter(zygote.living)), signal.SIGKILL)
        assert (await exits.of("sleeps")).signal == signal.SIGKILL
        assert zygote.living == frozenset()


async def test_a_child_keeps_nothing_of_its_parent_but_memory(tmp_path: Path) -> None:
    async with warm(tmp_path) as (zygote, exits):
        told = []
        for number in range(2):
            exits.clear()
            await fork(zygote, tmp_path, "tells", str(tmp_path / f"facts{number}").encode())
            assert (await exits.of("tells")).code == 0
            told.append(literal_eval((tmp_path / f"facts{number}").read_text()))
        first, second = told
        assert first["random"] != second["random"]
        assert first["descriptors"] == [0, 1, 2]
        log = str(tmp_path / "tells.log")
        assert first["kinds"] == ["/dev/null", log, log]
        assert first["session"] and first["sigterm"] and first["mask"] == 0
        assert first["greeting"] == "hello tells"
        assert (tmp_path / "tells.log").read_text() == "told\ntold\n"
        assert (tmp_path / "tells.log").stat().st_mode & 0o777 == 0o600


async def test_stop_drains_the_polite_and_kills_the_deaf_after_the_grace(tmp_path: Path) -> None:
    async with warm(tmp_path, grace=1.0) as (zygote, exits):
        for name in ("drains", "deaf"):
            await fork(zygote, tmp_path, name)
            await eventually((tmp_path / name).exists, what=f"{name} runs")
    assert {exit.name: (exit.code, exit.signal) for exit in exits} == {"drains": (0, 0), "deaf": (0, 9)}
    with pytest.raises(ZygoteFailed, match="start another"):
        await fork(zygote, tmp_path, "returns", b"0")


async def test_what_a_child_had_started_does_not_outlive_it(tmp_path: Path) -> None:
    """Also not what it put into a session of its own: the warm parent inherits and kills it."""
    async with warm(tmp_path) as (zygote, exits):
        await fork(zygote, tmp_path, "has_children")
        file = tmp_path / "has_children"
        await eventually(file.exists, what="it has children")
        kin = [ProcessId.of(int(pid)) for pid in file.read_text().split()]
        assert len(kin) == 2 and all(kin)
        zygote.signal(next(iter(zygote.living)), signal.SIGKILL)
        await exits.of("has_children")
        for process in kin:
            assert process and await process.gone(5.0)


async def test_a_warm_parent_killed_by_the_kernel_takes_every_child_with_it(tmp_path: Path) -> None:
    exits = Exits()
    zygote = await Zygote.start(preload=[ENTRIES], on_exit=exits.append, log_file=tmp_path / "zygote.log")
    for name in ("drains", "deaf", "has_children"):
        await fork(zygote, tmp_path, name)
        await eventually((tmp_path / name).exists, what=f"{name} runs")
    assert len(find_strays(zygote.mark)) == 6
    children = [ProcessId.of(pid) for pid in zygote.living]
    os.kill(zygote.pid, signal.SIGKILL)
    for child in children:  # by the kernel: nobody sweeps before `lost`
        assert child and await child.gone(5.0)
    await asyncio.wait_for(zygote.lost(), 10)
    assert sorted((exit.name, exit.signal) for exit in exits) == [
        ("deaf", 9),
        ("drains", 9),
        ("has_children", 9),
    ]
    assert find_strays(zygote.mark) == []
    with pytest.raises(ZygoteFailed):
        await fork(zygote, tmp_path, "returns", b"0")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_is_left_of_a_node_that_dies(tmp_path: Path, number: int) -> None:
    mark = uuid4().hex
    folder = tmp_path / mark
    folder.mkdir()
    node = subprocess.Popen([sys.executable, "-m", ENTRIES, str(folder)], cwd=ROOT)
    try:
        for name in ("pids", "drains", "deaf", "has_children"):
            await eventually((folder / name).exists, what=name)
        strays = find_strays(mark)
        assert len(strays) == 6  # the parent, three children, two of theirs
    finally:
        node.send_signal(number)
        node.wait()
    for process in strays:
        assert await process.gone(10.0), process
    assert find_strays(mark) == []


async def test_a_preload_that_fails_is_named_instead_of_ignored(tmp_path: Path) -> None:
    with pytest.raises(ZygoteFailed, match="no_such_module_at_all"):
        await Zygote.start(
            preload=["json", "no_such_module_at_all"], on_exit=print, log_file=tmp_path / "zygote.log"
        )


async def test_a_preload_that_starts_a_thread_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZygoteFailed, match=r"starts_a_thread.*thread"):
        await Zygote.start(
            preload=[f"{ENTRIES}:starts_a_thread"], on_exit=print, log_file=tmp_path / "zygote.log"
        )


async def test_a_signal_right_after_the_fork_reaches_only_that_child(tmp_path: Path) -> None:
    """A child had its parent's handlers for a moment, and a SIGTERM then ended all its siblings."""
    async with warm(tmp_path) as (zygote, exits):
        await fork(zygote, tmp_path, "drains")
        await eventually((tmp_path / "drains").exists, what="the sibling runs")
        for _ in range(30):
            zygote.signal(await fork(zygote, tmp_path, "sleeps"), signal.SIGTERM)
        await eventually(lambda: len(exits) == 30, what="all thirty have ended")
        assert {(exit.name, exit.signal) for exit in exits} == {("sleeps", signal.SIGTERM)}
        assert len(zygote.living) == 1
