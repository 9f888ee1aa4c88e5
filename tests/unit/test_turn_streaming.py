"""The pieces of an answer: D6, and what an asker makes of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from deploy.cli.streamed import StreamedText
from swarm.agent.events import Events
from swarm.agent.streaming import Pieces
from swarm.components import Action, Message
from swarm.errors import StoreError
from swarm.pieces import Piece, PieceReader
from swarm.plugin import Plugin
from swarm.records import Content, Turn
from swarm.testing import agent, others_run, say


def chunk(text: str, run: str, seq: int, *, final: bool = False) -> Content:
    return Content(text=text, metadata={"message_id": "m", "run_id": run, "seq": seq, "final": final})


def collect() -> tuple[list[Content], Pieces]:
    said: list[Content] = []

    async def hear(content: Content) -> None:
        await others_run()  # a slow wire must not turn the order
        said.append(content)

    return said, Pieces("m", "run", hear, Events())


async def test_d6_pieces_said_at_once_keep_their_order_and_end_with_exactly_one_final() -> None:
    said, pieces = collect()
    await asyncio.gather(*(pieces.say(Content(text=str(number))) for number in range(20)))
    await pieces.end()
    await pieces.end()
    await pieces.say(Content(text="late"))
    assert [one.metadata["seq"] for one in said] == list(range(21))
    assert [one.text for one in said] == [*map(str, range(20)), ""]
    assert [one.metadata["final"] for one in said] == [False] * 20 + [True]


async def test_d6_nothing_said_means_no_final_piece() -> None:
    said, pieces = collect()
    await pieces.end()
    assert said == []


async def test_d6_an_action_that_streams_without_end_fails_and_the_message_is_answered(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr("swarm.agent.streaming.MOST_PIECES", 5)

    async def flood(callback: Any) -> None:
        """Floods."""
        while True:
            await callback("x")

    async with agent("Ada", Plugin("p", actions=[Action("FLOOD", flood)])) as runtime:
        result = await say(runtime, "flood: it")
    assert result.status == "handled"
    assert "an answer must be shorter" in str(result.actions[0].error)


async def test_d6_a_piece_that_cannot_be_sent_fails_its_action() -> None:
    async def bad(callback: Any) -> None:
        """Says an object."""
        await callback({"text": "x", "data": {"thing": object()}})

    async with agent("Ada", Plugin("p", actions=[Action("BAD", bad)])) as runtime:
        result = await say(runtime, "bad: it")
    assert result.actions[0].reason == "not_json"


def test_d6_a_new_run_voids_the_earlier_one_and_its_late_pieces_are_dropped() -> None:
    reader = PieceReader()
    takes = [
        chunk("a", "one", 0), chunk("b", "one", 1), chunk("A", "two", 0), chunk("c", "one", 2),
        chunk("A", "two", 0), chunk("B", "two", 1), chunk("", "two", 2, final=True), chunk("late", "two", 3),
    ]  # fmt: skip
    pieces = [piece for piece in map(reader.take, takes) if piece is not None]
    assert [(p.text, p.run_id, p.restarted) for p in pieces] == [
        ("a", "one", False), ("b", "one", False), ("A", "two", True), ("B", "two", False), ("", "two", False),
    ]  # fmt: skip
    assert reader.text == "AB"
    assert [p.final for p in pieces].count(True) == 1


def test_d6_chunks_without_marks_are_taken_as_they_come() -> None:
    reader = PieceReader()
    assert [piece.seq for text in "ab" if (piece := reader.take(Content(text=text)))] == [0, 1]


@pytest.mark.parametrize(
    ("pieces", "reply", "shown"),
    [
        (["a", "b"], "ab", "ab\n"),
        (["a", "b"], "abc", "abc\n"),
        (["a"], "It failed.", "a\nIt failed.\n"),
        ([], "whole", "whole\n"),
    ],
)
def test_the_command_shows_the_pieces_and_then_what_they_had_not_said(
    pieces: list[str], reply: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = StreamedText()
    for seq, piece in enumerate(pieces):
        text.piece(Piece(piece, "m", "run", seq, False, False))
    text.end(reply)
    assert capsys.readouterr().out == shown


def test_the_command_says_when_an_answer_is_begun_again(capsys: pytest.CaptureFixture[str]) -> None:
    text = StreamedText()
    text.piece(Piece("half", "m", "one", 0, False, False))
    text.piece(Piece("who", "m", "two", 0, False, True))
    text.end("whole")
    said = capsys.readouterr()
    assert said.out == "half\nwhole\n"
    assert "begun again" in said.err


async def test_d6_a_message_tried_again_begins_a_new_run_and_only_the_run_that_committed_is_final() -> None:
    async def tell(callback: Any) -> str:
        """Tells."""
        await callback("once ")
        await callback("upon")
        return "once upon"

    reader, heard = PieceReader(), []

    async def hear(content: Content) -> None:
        heard.append(reader.take(content))

    message = Message(id="m", sender="bob", room="r", kind="ask", content=Content(text="tell: me"))
    async with agent("Ada", Plugin("p", actions=[Action("TELL", tell)])) as runtime:
        commit = runtime.adapter.commit
        refusals = [StoreError("The disk is full.")]

        async def refuses_once(turn: Turn) -> Any:
            if refusals:
                raise refusals.pop()
            return await commit(turn)

        runtime.adapter.commit = refuses_once  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await runtime.process_message(message, say=hear)
        result = await runtime.process_message(message, say=hear)
        runtime.adapter.commit = commit  # type: ignore[method-assign]
    pieces = [piece for piece in heard if piece is not None]
    assert [(p.text, p.restarted, p.final) for p in pieces] == [
        ("once ", False, False), ("upon", False, False), ("once ", True, False), ("upon", False, False),
        ("", False, True),
    ]  # fmt: skip
    assert pieces[-1].run_id == result.run_id
    assert reader.text == "once upon"
