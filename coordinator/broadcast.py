"""Announcements: one message, one delivery for each recipient, and a report of k of n and who is missing.

The recipients are fixed by the ledger when the announcement is accepted; its sender is never one of them.
"""

from __future__ import annotations

from typing import Any

from bus.errors import Refused
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
        self,
        sender: str,
        content: Content,
        *,
        room: str,
        to: str = "all",
        wait: float = 0.0,
        id: str | None = None,
    ) -> dict[str, Any]:
        """Announce on behalf of `sender`, then wait at most `wait` seconds for all to have handled it."""
        message = Outgoing(id=id or new_id(), to=to, room=room, content=content, kind="announce")
        [receipt] = await self._ledger.accept(sender, [message])
        self._router.ring(receipt.recipients)
        return await self.report(receipt.id, wait)

    async def report(self, id: str, wait: float = 0.0) -> dict[str, Any]:
        """Of an announcement made before. Raises Refused when there is none of this id."""

        async def look() -> dict[str, Any]:
            view = await self._ledger.message(id)
            if view is None or view.kind != "announce":
                raise Refused(f"There is no announcement {id}; check the id.", reason="unknown_message")
            return report(view)

        def over(seen: dict[str, Any]) -> bool:
            return all(name in seen["reasons"] for name in seen["pending"])

        return await self._progress.until(look, over, wait)


_WHY = {"accepted": "it waits in its inbox", "dispatched": "it has it in hand"}


def report(view: MessageView) -> dict[str, Any]:
    """`{"id", "recipients": n, "handled": k, "pending": [names], "missing": [{"name", "state", "why"}]}`: all that
    were fixed when it was accepted. In `reasons`, why those that expired or died never will handle it."""
    missing = [
        {"name": d.to, "state": d.state, "why": _WHY.get(d.state) or d.reason or d.state}
        for d in view.deliveries
        if d.state != "handled"
    ]
    return {
        "id": view.id,
        "recipients": len(view.deliveries),
        "handled": len(view.deliveries) - len(missing),
        "pending": [one["name"] for one in missing],
        "reasons": {one["name"]: one["why"] for one in missing if one["state"] in ("expired", "dead")},
        "missing": missing,
    }
