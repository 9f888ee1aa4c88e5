"""Whether a machine that joined has what an agent is made of: its own checkout of the project, of the same version.

A character by URL, `env:` or `agent:` needs nothing at hand; a spawned child has its document in the ledger, and its
ancestors' folders are looked at when it loads.
"""

from __future__ import annotations

import logging
from pathlib import Path

from bus.errors import BusError
from swarm.errors import SwarmError
from swarm.protocol import Placement

log = logging.getLogger(__name__)


class Checkout:
    """`folder` is the project's folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._right: set[tuple[str, str]] = set()

    async def why_not(self, placement: Placement) -> str:
        """What is missing here for this agent, as a sentence that says what to do; empty when nothing is."""
        source = placement.source
        if placement.heritage or "://" in source or source.startswith(("env:", "agent:")):
            return ""
        if (source, placement.version) in self._right:
            return ""
        path = self._folder / source
        if not path.exists():
            return f"{path} is not on this machine; bring the project's checkout here up to date."
        from swarm.character import load_character

        try:
            character = await load_character(path)
        except (SwarmError, BusError) as error:
            return f"{path} cannot be read on this machine: {error}"
        if placement.version and character.version != placement.version:
            return (
                f"{path} has version {character.version} on this machine and the swarm runs {placement.version}; "
                "bring the project's checkout here up to date."
            )
        self._right.add((source, placement.version))
        return ""
