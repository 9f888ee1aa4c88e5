"""Spawning: children that are made, commanded and removed at run time, by their parent or by an operator.

The ledger decides, in the transaction that does it, for the sender that the bus's server has named. This room tells
placement what has changed, and waits until it is so. Secrets never come by here: a child's bus credential and its
database password are made by the node that starts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bus.errors import Refused
from coordinator.directory import Directory
from coordinator.placement import Placer
from coordinator.running import Running
from swarm.errors import StoreDown, StoreError, Unknown
from swarm.ledger import LeaseLost, Ledger
from swarm.protocol import ChildCommand, Login
from swarm.records import NewChild


class Spawning:
    def __init__(self, ledger: Ledger, directory: Directory, placer: Placer, running: Running) -> None:
        self._ledger = ledger
        self._directory = directory
        self._placer = placer
        self._running = running

    async def spawn(self, parent: str, child: NewChild, wait: float) -> dict[str, Any]:
        """`{"agent", "agent_id", "parent", "created", "ready", "instances", "reason"}`, after at most `wait` seconds.
        Raises NoAuthority, UnknownAgent, and Refused for a bound, or a name or id that is another's."""
        try:
            created = await self._ledger.spawn(parent, child)
        except StoreError as error:
            raise _refusal(error) from error
        await self._directory.refresh()
        self._placer.converge()
        up = await self._running.up(child.name, wait)
        record = self._directory.named(child.name)
        return {"agent_id": record.id, "parent": record.parent, "created": created} | up

    async def command(self, parent: str, said: ChildCommand) -> dict[str, Any]:
        """What a parent wants of its child; the answers are those of `Running`. Raises UnknownChild, NoAuthority."""
        if said.action == "remove":
            return await self.remove(parent, said.child, said.wait)
        desired = {"stop": "stopped", "start": "running", "restart": None}[said.action]
        name = await self._ledger.command_child(parent, said.child, desired)  # type: ignore[arg-type]
        match said.action:
            case "stop":
                return await self._running.stop(name, said.wait)
            case "start":
                return await self._running.start(name, said.wait)
        return await self._running.restart(name, said.wait)

    async def remove(self, parent: str | None, child: str, wait: float) -> dict[str, Any]:
        """`{"agent", "stopped", "instances"}`, as for stopping. With None the operator does it."""
        try:
            name = await self._ledger.remove_child(parent, child)
        except StoreError as error:
            raise _refusal(error) from error
        return await self._running.stop(name, wait)

    async def permit(self, agent: str, rights: Mapping[str, bool]) -> None:
        try:
            await self._ledger.permit(agent, rights)
        except StoreError as error:
            raise _refusal(error) from error
        await self._directory.refresh()

    async def login(self, said: Login) -> dict[str, Any]:
        """Raises Refused for an agent that was not spawned: the others' logins are the deployer's."""
        if not await self._ledger.set_verifier(said.agent_id, said.verifier):
            raise Refused(f"There is no spawned agent {said.agent_id}.", reason="unknown_agent")
        return {"agent_id": said.agent_id}


def _refusal(error: StoreError) -> Exception:
    """What the ledger decided against is a refusal; what failed stays what it is."""
    if isinstance(error, (StoreDown, Unknown, LeaseLost)):
        return error
    return Refused(error.text, reason=error.reason or "refused")
