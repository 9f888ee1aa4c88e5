"""`swarm init`: a new project that runs as it is."""

from __future__ import annotations

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path

from deploy.cli.frame import add_json
from deploy.cli.output import put_json

SWARM = """[swarm]
name = "{name}"

[agents.counter]
character = "agents/counter"          # a folder like this one, a file, or an https URL
# parent = "another agent"
# replicas = 2
"""

CHARACTER = """{
  "name": "Counter",
  "bio": ["Counts the words of whatever you send.", "Never guesses."],
  "system": "You count the words of what you are sent, and nothing else.",
  "topics": ["words", "counting"],
  "style": {"all": ["short and exact"]},
  "messageExamples": [
    [
      {"name": "{{user1}}", "content": {"text": "Count the words: one two three"}},
      {"name": "Counter", "content": {"text": "3 words", "actions": ["COUNT_WORDS"]}}
    ]
  ]
}
"""

PLUGIN = '''"""What the counter can do besides talking."""

from swarm import Plugin

plugin = Plugin("counter")


@plugin.action(similes=["COUNT", "TALLY"], examples=["Count the words: one two three", "How many words are here?"])
async def count_words(message):
    "Counts the words of a message."
    words = message.text.rpartition(":")[2].split()
    return f"{len(words)} words"
'''

TEST = '''"""The counter's character loads, and its action counts. Run with: pytest"""

import asyncio
import runpy
from pathlib import Path
from types import SimpleNamespace

from swarm import load_character

FOLDER = Path(__file__).parent.parent / "agents" / "counter"


def test_the_character_loads():
    character = asyncio.run(load_character(FOLDER))
    assert character.name == "Counter"


def test_it_counts_words():
    plugin = runpy.run_path(str(FOLDER / "plugin.py"))["plugin"]
    [action] = plugin.actions
    message = SimpleNamespace(text="Count the words: one two three")
    assert asyncio.run(action.handler(message)) == "3 words"
'''

FILES = {
    "swarm.toml": SWARM,
    "agents/counter/character.json": CHARACTER,
    "agents/counter/plugin.py": PLUGIN,
    "tests/test_counter.py": TEST,
    ".gitignore": ".swarm/\n__pycache__/\n",
}


def add(parser: ArgumentParser) -> None:
    add_json(parser)
    parser.add_argument("folder", nargs="?", default=".", metavar="DIR", help="where (here)")


def run(args: Namespace) -> int:
    from swarm.errors import UsageError

    folder = Path(args.folder).expanduser().resolve()
    try:
        there = [name for name in FILES if name != ".gitignore" and (folder / name).exists()]
        if there:
            raise UsageError(f"{folder / there[0]} is there already; choose another folder.")
        written = [name for name in FILES if not (folder / name).exists()]
        for name in written:
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            text = FILES[name]
            path.write_text(text.replace("{name}", _slug(folder.name)) if name == "swarm.toml" else text)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}; choose another folder.") from error
    if args.json:
        put_json({"folder": str(folder), "files": written})
        return 0
    for name in written:
        print(f"made {name}")
    print(
        f"\nNext, in {folder}:\n  swarm up -d\n  swarm ask counter 'Count the words: one two three'\n  swarm down"
    )
    return 0


def _slug(name: str) -> str:
    """The folder's name as that of a swarm."""
    slug = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:40]
    return slug or "swarm"
