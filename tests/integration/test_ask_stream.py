"""`swarm ask --stream` in a real swarm: pieces cross processes in order, and each is seen before the next is made."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from tests.running import Running, running_swarm

pytestmark = pytest.mark.timeout(120)

TOML = "[swarm]\nname = 'streamed'\n[agents.teller]\ncharacter = 'agents/teller'\n"
TELLER = json.dumps({"name": "Teller", "bio": "Tells a story piece by piece."})
PLUGIN = '''
from pathlib import Path

from swarm.plugin import Plugin
from swarm.testing import eventually

plugin = Plugin("teller")


@plugin.action("TELL")
async def tell(message, callback):
    """Tells a piece, and the next one when somebody has seen it."""
    for piece in ("one", "two", "three"):
        await callback(f"{piece} ")
        await eventually(Path("seen", piece).exists, seconds=60)
    return "one two three and the end"


@plugin.action("BREAK")
async def broken(callback):
    """Begins and breaks."""
    await callback("half ")
    raise ValueError("out of words")
'''


async def test_pieces_come_one_by_one_in_order_through_processes_and_end_once(tmp_path: Path) -> None:
    files = {"agents/teller/character.json": TELLER, "agents/teller/plugin.py": PLUGIN}
    async with running_swarm(tmp_path / "streamed", TOML, files) as running:
        seen = running.folder / "seen"
        seen.mkdir()
        lines = await _as_they_come(running, seen)
        pieces, reply = lines[:-1], lines[-1]
        assert [(one["chunk"], one["seq"], one["final"]) for one in pieces] == [
            ("one ", 0, False), ("two ", 1, False), ("three ", 2, False), ("", 3, True),
        ]  # fmt: skip
        assert {one["message_id"] for one in pieces} == {reply["id"]}
        assert len({one["run_id"] for one in pieces}) == 1
        assert reply["text"] == "one two three and the end"
        # Everything has been seen: as text, the pieces and then what they had not said.
        shown = await running.cli("ask", "teller", "tell: again", "--stream")
        assert shown.stdout == "one two three and the end\n"
        failed = await running.cli("ask", "teller", "break: now", "--stream")
        assert failed.stdout == "half \nValueError: out of words\n"


async def _as_they_come(running: Running, seen: Path) -> list[dict[str, object]]:
    """Each line of `ask --stream --json`; a piece is marked as seen only when its line has been read, so an
    answer that came all at once would never end."""
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).parent / "swarm", "ask", "teller", "tell: a story", "--stream", "--json",
        cwd=running.folder, env={**os.environ, "NO_COLOR": "1"}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    lines: list[dict[str, object]] = []
    async with asyncio.timeout(60):
        async for line in process.stdout:
            lines.append(json.loads(line))
            piece = str(lines[-1].get("chunk", "")).strip()
            if piece:
                (seen / piece).touch()
        assert await process.wait() == 0
    return lines
