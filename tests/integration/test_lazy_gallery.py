"""The gallery's lazy agent in a real run: an instance that is asked nothing does not import its plugin (G1, G3)."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.running import running_swarm

LIBRARIAN = Path(__file__).parents[2] / "agents" / "librarian"
TOML = '[swarm]\nname = "library"\n\n[agents.librarian]\ncharacter = "agents/librarian"\n'


async def test_g3_the_librarian_loads_its_plugin_when_it_is_first_asked_for_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "library"
    agent = folder / "agents" / "librarian"
    shutil.copytree(LIBRARIAN, agent, ignore=shutil.ignore_patterns("__pycache__"))
    code = (agent / "plugin.py").read_text()
    (agent / "plugin.py").write_text(f'{code}\n(Path(__file__).parent / "imported").touch()\n')
    notes = {"notes/harbour.md": "# The harbour\n\nThe eastern lighthouse blinks twice every nine seconds.\n"}
    async with running_swarm(folder, TOML, notes) as running:
        hello = await running.json("ask", "librarian", "hello")
        assert hello["text"] and not (agent / "imported").exists()
        indexed = await running.json("ask", "librarian", "index: notes")
        assert "1 files (1 new" in indexed["text"]
        assert (agent / "imported").exists()
        answer = await running.json("ask", "librarian", "how often does the lighthouse blink?")
        assert "notes/harbour.md:3" in answer["text"]
