"""An answer on the terminal while it is made."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarm.pieces import Piece


class StreamedText:
    """The pieces as they come, and at the end whatever of the answer they had not said."""

    def __init__(self) -> None:
        self._shown = ""

    def piece(self, piece: Piece) -> None:
        if piece.restarted:
            if self._shown:
                sys.stdout.write("\n")
            print("swarm: the answer is begun again", file=sys.stderr)
            self._shown = ""
        self._shown += piece.text
        sys.stdout.write(piece.text)
        sys.stdout.flush()

    def end(self, text: str) -> None:
        shown = self._shown.strip()
        if not shown:
            print(text)
        elif text.startswith(self._shown):
            print(text[len(self._shown) :])
        elif text.strip() == shown:
            print()
        else:
            print(f"\n{text}")
