"""How long the ledger remembers what is over. What is not over is never forgotten.

Ages count from the end of a thing: a delivery's from when it was handled, expired or died, a task's from its last
change, a memory's from when it was made. A message goes with all of its deliveries at once, or stays; a task with
its whole tree. As long as a row is there, its id is recognised: who sends the same message again within that time
gets the first receipt, and later a second message. So no age is shorter than an hour.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

DAY_MS: Final = 86_400_000
LEAST_DAYS: Final = 1 / 24
"""Whoever lost a receipt asks again within minutes; an hour is beyond every retry of ours."""

Days = Annotated[float, Meta(ge=0, le=36_500)]
PrunePart = Literal["messages", "unheard", "tasks", "memories", "tally"]
PARTS: Final[tuple[PrunePart, ...]] = ("tasks", "messages", "unheard", "memories", "tally")
"""In the order in which a round goes through them: what is in the room of a task stays as long as the task. The
tally forgets nothing: it adds up what stays, so that a look at the counts need not."""


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days, by what it is; 0 keeps it for ever. `memories_of` has an agent's own, by its name.

    `dead` is the age of dead letters, which expired or died. One is its own tombstone, the only sign that a sequence
    has a gap: `dead` is not shorter than `messages` (`why_not` says so), so that it is there as long as its neighbours.
    """

    messages: Days = 30
    announcements: Days = 30
    notices: Days = 30
    dead: Days = 180
    tasks: Days = 90
    memories: Days = 0
    memories_of: dict[str, Days] = {}

    def why_not(self) -> list[str]:
        """What is wrong with these ages, a sentence each."""
        ages = {field: getattr(self, field) for field in self.__struct_fields__ if field != "memories_of"}
        ages |= {f"memories_of.{agent}": days for agent, days in self.memories_of.items()}
        wrong = [
            f"retention.{field} is less than an hour; a retry within that time must be recognised. "
            "Write 0 to keep everything."
            for field, days in ages.items()
            if 0 < days < LEAST_DAYS
        ]
        longest = max(self.messages, self.announcements)
        if self.dead and (self.dead < longest or 0 in (self.messages, self.announcements)):
            wrong.append(
                "retention.dead is shorter than that of messages or announcements; a dead letter marks the gap "
                "among them, so keep it as long at least."
            )
        return wrong

    def milliseconds(self) -> dict[str, int | dict[str, int]]:
        """The ages that are not for ever, in milliseconds."""
        ages: dict[str, int | dict[str, int]] = {
            field: int(getattr(self, field) * DAY_MS)
            for field in self.__struct_fields__
            if field != "memories_of" and getattr(self, field)
        }
        # Here a 0 counts: it excepts an agent from the age of all.
        ages["memories_of"] = {agent: int(days * DAY_MS) for agent, days in self.memories_of.items()}
        return ages


class Pruned(msgspec.Struct, frozen=True):
    """One batch: how many rows went, by what they were (``{"deliveries.handled": 12}``), and where the next
    begins; `next` is empty when this part of the round is over."""

    gone: dict[str, int]
    next: str = ""
