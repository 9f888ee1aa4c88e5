"""An answer as server-sent events, when who asked for it reads no more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest

from deploy.alone import streaming
from swarm.pieces import Piece
from swarm.records import Content


async def test_a_stream_that_nobody_reads_is_given_up_and_holds_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "SEND_SECONDS", 0.02)
    cancelled = asyncio.Event()

    async def ask(on_piece: Callable[[Piece], None]) -> Content:
        on_piece(Piece("a", "m", "r", 0, False, False))
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return Content()

    async def stuck(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.body":
            await asyncio.Event().wait()

    assert await asyncio.wait_for(streaming.stream(ask, lambda content: {}, stuck), 5) is None
    assert cancelled.is_set()


async def test_a_stream_with_nothing_to_say_yet_says_that_it_is_at_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streaming, "BEAT_SECONDS", 0.01)
    sent: list[bytes] = []
    go = asyncio.Event()

    async def ask(on_piece: Callable[[Piece], None]) -> Content:
        await go.wait()
        return Content(text="done")

    async def send(event: MutableMapping[str, Any]) -> None:
        sent.append(event.get("body", b""))
        if len(sent) > 3:
            go.set()

    await asyncio.wait_for(streaming.stream(ask, lambda content: {"text": content.text}, send), 5)
    assert sent[1].startswith(b": "), "a comment, which is no event"
    assert sent[-1] == b'event: reply\ndata: {"text":"done"}\n\n'
