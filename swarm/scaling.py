"""When an agent gets another replica, and when one is taken away: a value, as the swarm file says it.

What it means stands in docs/guide/scale.md; `coordinator/scaling.py` follows it.
"""

from __future__ import annotations

from typing import Final

import msgspec

MOST_REPLICAS: Final = 1000


class ScalePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """One replica more when the oldest message has waited longer than `queue_seconds`, or when each replica has more
    than `in_flight` messages in hand on the average; one less when the others could do its work with half of that
    for `idle_seconds` on end, and nothing waits. Never fewer than `min` nor more than `max`."""

    min: int = 1
    max: int
    queue_seconds: float = 5.0
    in_flight: int = 8
    idle_seconds: float = 30.0

    def clamp(self, replicas: int) -> int:
        return max(self.min, min(self.max, replicas))
