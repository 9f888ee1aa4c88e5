"""What the librarian does: it reads a folder into memory, and answers from it with file and line.

Only folders below `LIBRARY_ROOT` (default: where the agent's process was started) are read.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from swarm.components import ActionOptions, ActionResult, Message
from swarm.plugin import Plugin

from .answering import answer as answer_from
from .answering import find
from .catalogue import Catalogue
from .shelving import shelve

if TYPE_CHECKING:
    from swarm import AgentRuntime

READ_SECONDS = 60.0

plugin = Plugin("librarian", "Reads folders and answers from them, with citations.")

_INDEX = re.compile(
    r"\s*(?:index|learn)\s*:?\s*(?:the\s+)?(?:folder\s+)?[\"'`]?(.+?)[\"'`]?\s*$", re.I | re.S
)
_ANSWER = re.compile(r"\s*(?:answer|search|look_up)\s*:\s*", re.I)
_QUESTION = re.compile(
    r"\s*(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|may|must|should|"
    r"explain|describe|find|tell me)\b",
    re.I,
)


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`path` of a folder, relative to LIBRARY_ROOT; else the message names it: ``index: docs``."""

    path: str = ""


async def names_a_folder(message: Message) -> bool:
    return bool(message.content.data.get("path")) or _INDEX.match(message.text) is not None


async def is_a_question(message: Message) -> bool:
    text = message.text
    if message.kind not in ("ask", "task") or _INDEX.match(text):
        return False
    return bool(_ANSWER.match(text) or _QUESTION.match(text) or text.rstrip().endswith("?"))


@plugin.action(
    "INDEX",
    description="Reads the texts of a folder into memory, so that questions can be answered from them.",
    similes=["LEARN", "READ_FOLDER"],
    examples=["index: docs", "learn the folder notes"],
    parameters=Reading,
    validate=names_a_folder,
    timeout=120.0,
)
async def index(message: Message, options: ActionOptions, runtime: AgentRuntime) -> ActionResult:
    """Reading again writes only what changed, and forgets what is gone."""
    given = _INDEX.match(message.text)
    path = options.parameters.path or (given[1] if given else "")
    root = _root(runtime)
    folder, refusal = await asyncio.to_thread(_folder, root, path)
    if folder is None:
        return ActionResult(False, error=refusal, reason="no_folder")
    try:
        async with asyncio.timeout(READ_SECONDS):
            shelf = await asyncio.to_thread(shelve, folder)
    except (OSError, TimeoutError) as error:
        why = f"it took longer than {READ_SECONDS:.0f} s" if isinstance(error, TimeoutError) else str(error)
        return ActionResult(
            False, error=f"The folder {path!r} could not be read: {why}.", reason="unreadable"
        )
    put = await Catalogue(runtime).put(folder, shelf)
    text = (
        f"{path}: {put.files} files ({put.new} new, {put.changed} changed, {put.gone} gone), "
        f"{put.passages} new passages."
    )
    if shelf.left_out:
        text += f" Not read: {', '.join(f'{name} ({why})' for name, why in shelf.left_out[:5])}"
        text += f" and {len(shelf.left_out) - 5} more." if len(shelf.left_out) > 5 else "."
    if shelf.beyond:
        text += f" {shelf.beyond} more files are beyond what I can hold; index folders below it."
    data = {**msgspec.to_builtins(put), "left_out": len(shelf.left_out), "beyond": shelf.beyond}
    return ActionResult(True, text=text, data=data)


@plugin.action(
    "ANSWER",
    description="Answers a question from the folders that were read, with file and line.",
    similes=["LOOK_UP", "SEARCH"],
    examples=["what does the guide say about retries?", "where is the port set?"],
    validate=is_a_question,
    timeout=50.0,
)
async def answer(message: Message, runtime: AgentRuntime) -> ActionResult:
    question = _ANSWER.sub("", message.text, count=1).strip() or str(message.content.data.get("question", ""))
    if not question:
        return ActionResult(False, error="What is the question? As in: answer: how does it restart?")
    folders = await Catalogue(runtime).folders()
    if not folders:
        return _none("I have read no folder yet: give me one, as in `index: docs`.")
    root = _root(runtime)
    sources = await find(runtime, question, lambda folder, path: _shown(root, folder, path))
    found = await answer_from(runtime, question, sources)
    if not found.citations:
        return _none(f"I found nothing about that in {', '.join(_shown(root, one, '') for one in folders)}.")
    return ActionResult(True, text=found.text, data={"citations": list(found.citations), "by": found.by})


def _none(text: str) -> ActionResult:
    """No answer is a finding, not a failure."""
    return ActionResult(True, text=text, data={"citations": [], "by": "nobody"})


def _root(runtime: AgentRuntime) -> Path:
    return Path(str(runtime.get_setting("LIBRARY_ROOT") or ".")).absolute()


def _folder(root: Path, path: str) -> tuple[Path | None, str]:
    """The folder with every link resolved, or None and a sentence."""
    try:
        folder = (root / path).resolve(strict=True)
        if not folder.is_relative_to(root.resolve()):
            return None, f"{path!r} lies outside of the library; I read only what is below LIBRARY_ROOT."
    except (OSError, ValueError, RuntimeError):
        return None, f"There is no folder {path!r} in the library."
    if not folder.is_dir():
        return None, f"{path!r} is not a folder: give the folder that it lies in."
    return folder, ""


def _shown(root: Path, folder: str, path: str) -> str:
    """A file as people know it: relative to the library where it lies in it."""
    return os.path.relpath(Path(folder, path), root.resolve())
