"""What the librarian knows, in the agent's memory: passages, and for each folder the catalogue of what is current.

A passage's id comes from its file's path, the hash of the file and its first line, so reading a folder
again writes nothing that is there. (The file's hash, not the passage's: a passage that only moved must
not keep its old line numbers.) Passages of files that changed or went stay in the store, but no
catalogue names them any more, and an answer cites only what the latest catalogue names.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from swarm.ids import derived_id
from swarm.records import Content, Memory, Turn

from .shelving import Book, Passage, Shelf

if TYPE_CHECKING:
    from swarm import AgentRuntime

PASSAGE: Final = "passage"
CATALOGUE: Final = "catalogue"
FOLDER: Final = "library"
MOST_FOLDERS: Final = 50
BATCH: Final = 200


class Current(msgspec.Struct, frozen=True):
    """The latest catalogue of a folder: the hash of each file in it."""

    folder: str
    files: dict[str, str]


class Shelved(msgspec.Struct, frozen=True):
    """What a reading changed, in numbers of files; `passages` is how many were new."""

    files: int
    new: int
    changed: int
    gone: int
    passages: int


class Catalogue:
    def __init__(self, runtime: AgentRuntime) -> None:
        self._runtime = runtime

    async def folders(self) -> list[str]:
        known = await self._runtime.adapter.get_memories(kind=FOLDER, limit=MOST_FOLDERS)
        return [one.content.data["folder"] for one in known]

    async def current(self, folder: str) -> Current | None:
        latest = await self._runtime.adapter.get_memories(room=self._room(folder), kind=CATALOGUE, limit=1)
        return msgspec.convert(latest[-1].content.data, Current) if latest else None

    async def all_current(self) -> dict[str, Current]:
        """Each folder's latest catalogue, by folder."""
        found = [await self.current(folder) for folder in await self.folders()]
        return {one.folder: one for one in found if one is not None}

    async def put(self, folder: Path, shelf: Shelf) -> Shelved:
        """Write the passages, in batches, then the catalogue with the turn: until its commit nothing new is cited."""
        name = str(folder)
        before = await self.current(name)
        old = before.files if before else {}
        files = {book.path: book.hash for book in shelf.books}
        fresh = [book for book in shelf.books if old.get(book.path) != book.hash]
        written = 0
        async for size in self._write(name, fresh):
            written += size
        if files != old or before is None:
            # The folder's own row has a derived id, so a folder is known once however often it is read.
            await self._runtime.adapter.create_memory(self._memory(name, FOLDER, {"folder": name}, "folder"))
            text = f"{len(files)} files of {name}"
            await self._runtime.remember(
                text, kind=CATALOGUE, data=msgspec.to_builtins(Current(name, files)), room=self._room(name)
            )
        return Shelved(
            files=len(files),
            new=sum(book.path not in old for book in fresh),
            changed=sum(book.path in old for book in fresh),
            gone=len(old.keys() - files.keys()),
            passages=written,
        )

    async def _write(self, folder: str, books: list[Book]) -> AsyncIterator[int]:
        batch: list[Memory] = []
        for memory in self._memories(folder, books):
            batch.append(memory)
            if len(batch) == BATCH:
                yield await self._commit(batch)
                batch = []
        if batch:
            yield await self._commit(batch)

    async def _commit(self, batch: list[Memory]) -> int:
        turn = Turn(delivery=None, instance=self._runtime.instance, memories=tuple(batch))
        await self._runtime.adapter.commit(turn)
        return len(batch)

    def _memories(self, folder: str, books: list[Book]) -> Iterator[Memory]:
        for book in books:
            for passage in book.passages:
                yield self._passage(folder, book, passage)

    def _passage(self, folder: str, book: Book, passage: Passage) -> Memory:
        data = {
            "folder": folder,
            "path": book.path,
            "hash": book.hash,
            "first": passage.first,
            "last": passage.last,
            "heading": passage.heading,
        }
        return self._memory(folder, PASSAGE, data, book.path, book.hash, passage.first, text=passage.text)

    def _memory(
        self, folder: str, kind: str, data: dict[str, Any], *key: str | int, text: str = ""
    ) -> Memory:
        return Memory(
            id=derived_id(self._runtime.agent_id, kind, folder, *key),
            room=self._room(folder),
            entity=self._runtime.name,
            kind=kind,
            content=Content(text=text, data=data),
            created_at=int(time.time() * 1000),
        )

    def _room(self, folder: str) -> str:
        return f"library:{derived_id(self._runtime.agent_id, folder)}"
