"""The directory: which agents there are, and whom an address means. Read from the ledger, never guessed.

Addresses: a name, an id, ``role:x``, ``parent``, ``children``, ``all``. An unknown one is an error with near
names. The rows of the operator and of the coordinator itself are senders, not agents: nobody lists them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from bus.errors import Refused
from swarm.errors import UnknownAgent
from swarm.ledger import Ledger
from swarm.protocol import Ancestor
from swarm.records import COORDINATOR, OPERATOR, AgentRecord

log = logging.getLogger(__name__)

REFRESH_SECONDS: Final = 1.0
"""An unknown name makes the directory look into the ledger at most this often."""


class Directory:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._agents: dict[str, AgentRecord] = {}
        self._by_id: dict[str, str] = {}
        self._children: dict[str, tuple[str, ...]] = {}
        self._roles: dict[str, tuple[str, ...]] = {}
        self._scaled: tuple[str, ...] = ()
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    async def refresh(self, *, at_most_every: float = 0.0) -> bool:
        """Read all agents anew; False when that was done less than `at_most_every` seconds ago."""
        async with self._reading:
            if time.monotonic() - self._read_at < at_most_every:
                return False
            records = await self._ledger.agents()
            self._read_at = time.monotonic()
            self._take(records)
            return True

    async def amend(self, names: Iterable[str], **changes: Any) -> None:
        """What we have just written to the ledger about these agents, without reading all of them anew. Waits for a
        reading that is under way, which may not have seen it."""
        async with self._reading:
            for name in names:
                if (record := self._agents.get(name)) is not None:
                    self._agents[name] = msgspec.structs.replace(record, **changes)

    def _take(self, records: list[AgentRecord]) -> None:
        known = sorted((r for r in records if r.name not in (OPERATOR, COORDINATOR)), key=lambda r: r.name)
        children: dict[str, list[str]] = {}
        roles: dict[str, list[str]] = {}
        for record in known:
            if record.parent is not None:
                children.setdefault(record.parent, []).append(record.name)
            for role in record.roles:
                roles.setdefault(role, []).append(record.name)
        self._agents = {record.name: record for record in known}
        self._by_id = {record.id: record.name for record in known}
        self._children = {parent: tuple(names) for parent, names in children.items()}
        self._roles = {role: tuple(names) for role, names in roles.items()}
        self._scaled = tuple(record.name for record in known if record.scale is not None)

    def __iter__(self) -> Iterator[AgentRecord]:
        """All agents, by name."""
        return iter(self._agents.values())

    def __contains__(self, name: str) -> bool:
        return name in self._agents

    def get(self, name: str) -> AgentRecord | None:
        return self._agents.get(name)

    def named(self, address: str) -> AgentRecord:
        """The agent with this name or id. Raises UnknownAgent with near names."""
        record = self._agents.get(address) or self._agents.get(self._by_id.get(address.lower(), ""))
        if record is None:
            raise UnknownAgent(address, self._agents)
        return record

    def scaled(self) -> list[AgentRecord]:
        """Those whose number of replicas follows a policy."""
        return [self._agents[name] for name in self._scaled]

    def children(self, name: str) -> tuple[str, ...]:
        return self._children.get(name, ())

    def heritage(self, record: AgentRecord) -> tuple[Ancestor, ...]:
        """From whom a spawned agent inherits: the one of the swarm file first, the parent at its birth last."""
        line: list[Ancestor] = []
        birth = record.birth
        while birth is not None and len(line) < 1000:
            above = self._agents.get(birth.of)
            if above is None:
                break
            birth = above.birth
            secrets = birth.secrets if birth is not None else ()
            line.append(Ancestor(above.name, above.id, above.source, secrets))
        return tuple(reversed(line))

    def whom_to_ask(self, sender: str, address: str) -> tuple[str, ...]:
        """The agents any one of which may answer, the asker excluded. Raises UnknownAgent, and Refused for
        what cannot be asked: oneself, or many."""
        if address in ("children", "all") or address.startswith("group:"):
            raise Refused(
                f"An ask goes to one agent and {address!r} are many; tell or announce it, or ask each by name.",
                reason="many",
            )
        if address == "parent":
            record = self._agents.get(sender)
            if record is None or record.parent is None:
                raise Refused(f"{sender} has no parent to ask.", reason="no_parent")
            address = record.parent
        if address.startswith("role:"):
            offering = self._roles.get(address.removeprefix("role:"), ())
            if not offering:
                raise UnknownAgent(address, [f"role:{role}" for role in self._roles])
            others = tuple(name for name in offering if name != sender)
            if not others:
                raise Refused(f"Only {sender} itself offers {address}; nobody asks itself.", reason="self")
            return others
        name = self.named(address).name
        if name == sender:
            raise Refused(f"{sender} cannot ask itself; call the code directly.", reason="self")
        return (name,)
