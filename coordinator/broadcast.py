"""Announcements: one message, one delivery for each recipient, and a report of k of n and who is missing.

The recipients are fixed by the ledger when the announcement is accepted; its sender is never one of them.
"""

from __future__ import annotations

from typing import Any

from coordinator.progress import Progress
from coordinator.router import Router
from swarm.ids import new_id
from swarm.ledger import Ledger
from swarm.records import Content, MessageView, Outgoing


class Broadcast:
    def __init__(self, ledger: Ledger, router: Router, progress: Progress) -> None:
        self._ledger = ledger
        self._router = router
        self._progress = progress

    async def announce(
        self, sender: str, content: Content, *, room: str, wait: float = 0.0, id: str | None = None
    ) -> dict[str, Any]:
        """Announce on behalf of `sender`, then wait at most `wait` seconds for all to have handled it."""
        message = Outgoing(id=id or new_id(), to="all", room=room, content=content, kind="announce")
        [receipt] = await self._ledger.accept(sender, [message])
        self._router.ring(receipt.recipients)

        async def look() -> dict[str, Any]:
            return report(await self._ledger.message(receipt.id), receipt.id, receipt.recipients)

        def over(seen: dict[str, Any]) -> bool:
            return all(name in seen["reasons"] for name in seen["pending"])

        return await self._progress.until(look, over, wait)


def report(view: MessageView | None, id: str, recipients: tuple[str, ...]) -> dict[str, Any]:
    """`{"id", "recipients": n, "handled": k, "pending": [names]}`; in `reasons`, why those that expired or
    died never will be handled."""
    deliveries = () if view is None else view.deliveries
    handled = {d.to for d in deliveries if d.state == "handled"}
    ended = {d.to: d.reason or d.state for d in deliveries if d.state in ("expired", "dead")}
    pending = [name for name in recipients if name not in handled]
    return {
        "id": id,
        "recipients": len(recipients),
        "handled": len(handled),
        "pending": pending,
        "reasons": ended,
    }
