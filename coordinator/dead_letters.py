"""Dead letters as operators handle them: looked at, sent again, dropped. What they are, the ledger says."""

from __future__ import annotations

from typing import Any

import msgspec

from bus.errors import Refused
from coordinator.router import Router
from swarm.dead_letters import DeadLetter
from swarm.errors import InboxFull
from swarm.ids import is_uuid, new_id
from swarm.ledger import Ledger
from swarm.records import OPERATOR


class DeadLetters:
    def __init__(self, ledger: Ledger, router: Router) -> None:
        self._ledger = ledger
        self._router = router

    async def list(self, agent: str | None, limit: int, *, settled: bool) -> list[dict[str, Any]]:
        """The newest first: `{"id", "delivery", "from", "to", "kind", "state", "reason", "attempts", "ended_at",
        "status"}`. `status` is dead, requeued or dropped; only with `settled` the last two."""
        found = await self._ledger.dead_letters(agent=agent, limit=limit, settled=settled)
        return [_row(letter) for letter in found]

    async def show(self, id: str, agent: str | None) -> dict[str, Any]:
        """As in `list`, and `"text", "data", "room", "address", "crashes", "hash", "error", "accepted_at",
        "requeue_of", "requeued_as", …`."""
        letter = await self._find(id, agent)
        rest: dict[str, Any] = msgspec.to_builtins(letter)
        for name in ("sender", "recipient", "to", "content"):
            del rest[name]
        content = {"text": letter.content.text, "data": letter.content.data}
        return _row(letter) | content | {"address": letter.to} | rest

    async def requeue(self, id: str, agent: str | None) -> dict[str, Any]:
        """`{"id", "delivery", "requeued_as", "recipients"}`. Raises Refused, InboxFull, NoAuthority."""
        return await self._requeue(await self._find(id, agent))

    async def requeue_all(self, agent: str | None, limit: int) -> dict[str, Any]:
        """The oldest first, `limit` at most, until an inbox is full: `{"requeued": [as of requeue], "refused":
        [{"id", "delivery", "reason"}]}`. Results and notices, which are never sent again, are passed over."""
        done: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        for letter in await self._ledger.dead_letters(agent=agent, limit=limit, oldest=True):
            if letter.kind in ("result", "notice"):
                continue
            try:
                done.append(await self._requeue(letter))
            except Refused as error:
                refused.append({"id": letter.id, "delivery": letter.delivery, "reason": error.text})
                if isinstance(error, InboxFull):
                    break
        return {"requeued": done, "refused": refused}

    async def drop(self, id: str, agent: str | None) -> dict[str, Any]:
        """`{"id", "delivery", "status": "dropped"}`. Raises Refused."""
        letter = await self._find(id, agent)
        await self._ledger.drop_dead(letter.delivery, OPERATOR)
        return {"id": letter.id, "delivery": letter.delivery, "status": "dropped"}

    async def _requeue(self, letter: DeadLetter) -> dict[str, Any]:
        again = await self._ledger.requeue(letter.delivery, new_id(), OPERATOR)
        self._router.ring(again.recipients)
        return {
            "id": letter.id,
            "delivery": letter.delivery,
            "requeued_as": again.id,
            "recipients": list(again.recipients),
        }

    async def _find(self, id: str, agent: str | None) -> DeadLetter:
        """By the number of the delivery, or by the message's id where it has one dead letter only."""
        if id.isascii() and id.isdigit() and len(id) < 19:
            letter = await self._ledger.dead_letter(int(id))
            found = [] if letter is None else [letter]
        else:
            found = await self._ledger.dead_letters_of(id, agent=agent) if is_uuid(id) else []
        if not found:
            raise Refused(
                f"There is no dead letter {id}; `swarm dead ls` lists those that there are.",
                reason="unknown_dead_letter",
            )
        if len(found) > 1:
            numbers = ", ".join(f"{letter.delivery} ({letter.recipient})" for letter in found[:10])
            raise Refused(
                f"Message {id} has {len(found)} dead letters: {numbers}; name one by its number, or --agent.",
                reason="many",
            )
        return found[0]


def _row(letter: DeadLetter) -> dict[str, Any]:
    status = "requeued" if letter.requeued_as else "dropped" if letter.dropped_at else "dead"
    return {
        "id": letter.id,
        "delivery": letter.delivery,
        "from": letter.sender,
        "to": letter.recipient,
        "kind": letter.kind,
        "state": letter.state,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "hash": letter.hash,
        "ended_at": letter.ended_at,
        "status": status,
    }
