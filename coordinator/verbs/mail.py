"""What became of a message, and what waits for an agent."""

from __future__ import annotations

from typing import Any

from bus.errors import Refused
from coordinator.directory import Directory
from coordinator.offline import Offline
from coordinator.verbs.verb import Args, IdArgs, Limit, Verbs
from swarm.ledger import Ledger
from swarm.records import MessageView


class InboxArgs(Args):
    agent: str
    limit: Limit = 10


class Mail:
    def __init__(self, ledger: Ledger, directory: Directory, offline: Offline) -> None:
        self._ledger = ledger
        self._directory = directory
        self._offline = offline

    def verbs(self) -> Verbs:
        return {
            "message_show": (IdArgs, self.message_show),
            "inbox": (InboxArgs, self.inbox),
        }

    async def message_show(self, args: IdArgs) -> dict[str, Any]:
        """`{"id", "from", "to", "deliveries": [{"to", "state", "attempts", "reason"}], …}`."""
        view = await self._ledger.message(args.id)
        if view is None:
            raise Refused(f"There is no message {args.id}; check the id.", reason="unknown_message")
        return message_row(view)

    async def inbox(self, args: InboxArgs) -> dict[str, Any]:
        return await self._offline.inbox(self._directory.named(args.agent).name, args.limit)


def message_row(view: MessageView) -> dict[str, Any]:
    return {
        "id": view.id,
        "from": view.sender,
        "to": view.to,
        "room": view.room,
        "kind": view.kind,
        "text": view.content.text,
        "data": view.content.data,
        "accepted_at": view.accepted_at,
        "deliveries": [
            {
                "to": delivery.to,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "reason": delivery.reason,
                "handled_at": delivery.handled_at,
            }
            for delivery in view.deliveries
        ],
    }
