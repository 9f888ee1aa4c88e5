"""How an asker reads the pieces of an answer: in order, never mixed with those of an earlier try."""

from __future__ import annotations

from typing import NamedTuple

from swarm.records import Content


class Piece(NamedTuple):
    """A piece of an answer as it was made. `restarted`: the message is tried again, and what came before this
    piece is void. `final`: no more comes, and the turn has committed."""

    text: str
    message_id: str
    run_id: str
    seq: int
    final: bool
    restarted: bool


class PieceReader:
    """Takes the chunks of one ask as they arrive; gives each piece that counts.

    A run that was left is never taken up again, and a piece that came before does not come twice.
    """

    def __init__(self) -> None:
        self.text = ""
        """What the run in hand has said so far."""
        self._run: str | None = None
        self._left: set[str] = set()
        self._next = 0
        self._ended = False

    def take(self, content: Content) -> Piece | None:
        """The piece, or None for one that is late, doubled, or comes after the final one."""
        mark = content.metadata
        run, seq = str(mark.get("run_id") or ""), mark.get("seq")
        if run in self._left:
            return None
        restarted = self._run is not None and run != self._run
        if run != self._run:
            self._leave()
            self._run = run
        at = seq if isinstance(seq, int) else self._next
        if self._ended or at < self._next:
            return None
        self._next, self._ended = at + 1, bool(mark.get("final"))
        self.text += content.text
        message_id = str(mark.get("message_id") or "")
        return Piece(content.text, message_id, run, at, self._ended, restarted)

    def _leave(self) -> None:
        if self._run is not None:
            self._left.add(self._run)
        self.text, self._next, self._ended = "", 0, False
