"""A log that a process writes for ever takes no more than its bound, twice (X8)."""

from __future__ import annotations

import asyncio
from pathlib import Path

from deploy.logbounds import bound_logs
from deploy.processes import open_log
from swarm.testing import eventually


async def test_x8_logs_are_cut_while_they_are_written_and_the_rest_is_kept_beside(tmp_path: Path) -> None:
    log, other = tmp_path / "ada.log", tmp_path / "notes.txt"
    other.write_text("x" * 5_000)
    with open_log(log) as file:
        file.write(b"old line\n" * 500)
        async with asyncio.TaskGroup() as group:
            bounding = group.create_task(bound_logs(tmp_path, every=0.01, limit=1_000))
            await eventually(lambda: log.stat().st_size == 0, what="the log is cut")
            file.write(b"new line\n")
            await eventually(lambda: log.read_bytes() == b"new line\n", what="it is written on")
            bounding.cancel()
    assert (tmp_path / "ada.log.1").read_bytes() == b"old line\n" * 500
    assert other.stat().st_size == 5_000
