"""D6: an agent that asks another hears the answer's pieces as values, in order, all of them before its reply."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bus.envelope import Envelope, pack
from bus.errors import NobodyThere
from swarm.agent.hearing import heard_by
from swarm.components import Action
from swarm.ids import new_id
from swarm.pieces import Piece
from swarm.plugin import Plugin
from swarm.records import Content
from swarm.testing import others_run
from tests.memory_swarm import memory_swarm


async def tell_a_story(callback: Any) -> str:
    """Tells a story in pieces."""
    for piece in ("once ", "upon ", "a time"):
        await callback(piece)
    return "once upon a time"


STORY = Plugin("story", actions=[Action("STORY", tell_a_story)])


async def test_d6_an_agent_hears_anothers_pieces_typed_and_in_order_before_its_reply() -> None:
    heard: list[Any] = []

    async def slowly(piece: Piece) -> None:
        await others_run(3)
        heard.append(piece)

    async with memory_swarm(["writer", "editor"]) as swarm:
        await swarm.start("writer", STORY)
        editor = (await swarm.start("editor")).runtime
        reply = await editor.peers.ask("writer", "story:", timeout=10, on_chunk=slowly)
        heard.append(reply.text)
        plain: list[str] = []
        await editor.peers.ask(
            "writer", "story:", timeout=10, on_chunk=lambda piece: plain.append(piece.text)
        )
    *pieces, last = heard
    assert last == "once upon a time"
    assert all(isinstance(piece, Piece) for piece in pieces)
    assert [(one.text, one.seq, one.final, one.restarted) for one in pieces] == [
        ("once ", 0, False, False),
        ("upon ", 1, False, False),
        ("a time", 2, False, False),
        ("", 3, True, False),
    ]
    assert len({one.run_id for one in pieces}) == len({one.message_id for one in pieces}) == 1
    assert plain == ["once ", "upon ", "a time", ""]


async def test_d6_what_fails_at_a_piece_costs_the_ask_nothing(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Piece] = []

    def breaks(piece: Piece) -> None:
        heard.append(piece)
        raise ValueError("no paper")

    async def hangs(piece: Piece) -> None:
        await asyncio.Event().wait()

    async with memory_swarm(["writer", "editor"]) as swarm:
        await swarm.start("writer", STORY)
        editor = (await swarm.start("editor")).runtime
        with caplog.at_level(logging.WARNING):
            assert (await editor.peers.ask("writer", "story:", on_chunk=breaks)).text == "once upon a time"
            late = await editor.peers.ask("writer", "story:", timeout=0.5, on_chunk=hangs)
        assert late.text == "once upon a time"
    assert len(heard) == 1
    assert caplog.text.count("gets no more of them") == 2


def chunk(run: str, seq: int, text: str, *, final: bool = False) -> Envelope:
    mark = {"message_id": "m", "run_id": run, "seq": seq, "final": final}
    body = pack(Content(text=text, metadata=mark))
    return Envelope(id=new_id(), sender="writer", to="editor", room="r", kind="chunk", body=body)


async def test_d6_a_message_that_is_tried_again_resets_and_never_mixes() -> None:
    heard: list[Piece] = []
    async with heard_by(heard.append, "writer", 5.0) as take:
        for one in (
            chunk("first", 0, "half "),
            chunk("second", 0, "whole "),
            chunk("first", 1, "of the first, late"),
            chunk("second", 0, "whole "),
            chunk("second", 1, "story"),
            chunk("second", 2, "", final=True),
            chunk("second", 3, "after the end"),
        ):
            take(one)
    assert [(one.text, one.run_id, one.restarted) for one in heard] == [
        ("half ", "first", False),
        ("whole ", "second", True),
        ("story", "second", False),
        ("", "second", False),
    ]


async def test_d6_what_is_no_piece_is_dropped_and_an_error_of_the_ask_comes_out_as_it_is() -> None:
    heard: list[Piece] = []
    with pytest.raises(NobodyThere):
        async with heard_by(heard.append, "writer", 5.0) as take:
            take(Envelope(id=new_id(), sender="w", to="e", room="r", kind="chunk", body=b"\xc1"))
            take(chunk("one", 0, "good"))
            raise NobodyThere("gone")
    assert [one.text for one in heard] == ["good"]
