"""What a coordinator counts, in one place; `swarm stats` shows it."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(slots=True)
class Metrics:
    """Counters since the process started; they only grow."""

    claimed: int = 0
    dispatched: int = 0
    recalled: int = 0
    released: int = 0
    returned: int = 0
    lost_dispatches: int = 0
    """Deliveries that an instance turned out not to have, or whose end was not heard."""
    ended: int = 0
    """Deliveries that expired or died, and notices were written."""
    sweeps: int = 0
    cleanings: int = 0
    """Rounds of the cleaner that were finished."""
    pruned: int = 0
    """Rows of the ledger that it deleted."""
    asks_routed: int = 0
    asks_refused: int = 0
    asks_failed: int = 0
    """Open asks whose instance died."""
    foreign_replies: int = 0
    forged_senders: int = 0
    bad_messages: int = 0
    loops_refused: int = 0
    hellos: int = 0
    roll_calls: int = 0
    instances_lost: int = 0
    instances_blocked: int = 0
    """Had their nodes end them because they had missed their beats."""
    assignments: int = 0
    commands: int = 0
    send_failures: int = 0
    store_failures: int = 0
    terms: int = 0
    leases_lost: int = 0

    pushes: int = 0
    push_failures: int = 0

    def count_push(self, arrived: bool) -> None:
        self.pushes += arrived
        self.push_failures += not arrived

    def as_dict(self) -> dict[str, int]:
        return asdict(self)
