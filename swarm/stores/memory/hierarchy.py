"""The ledger's part that knows families, in memory: the rules of 0010_spawn.sql."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping

import msgspec

from bus.errors import Refused
from swarm.errors import NoAuthority, StoreError, UnknownChild
from swarm.records import CHILD_PERMISSIONS, AgentPermissions, Desired, Family, NewChild
from swarm.stores.checks import check_child, check_id, check_rights, check_text, to_json
from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.rows import AgentRow, BirthRow


class HierarchyPart:
    """What `MemoryLedger` has of it."""

    def _reading(self) -> MemoryDatabase:
        raise NotImplementedError

    def _writing(self) -> MemoryDatabase:
        raise NotImplementedError

    async def family(self, agent: str) -> Family:
        check_text("The agent", agent)
        database = self._reading()
        row = database.agent(agent)
        ancestors = tuple(one.name for one in ancestors_of(database, row))
        generation, subtree = [row], list[str]()
        while generation := [child for one in generation for child in children_of(database, one)]:
            subtree += sorted(child.name for child in generation)
        children = tuple(sorted(child.name for child in children_of(database, row)))
        return Family(ancestors[0] if ancestors else None, children, ancestors, tuple(subtree))

    async def roots(self) -> list[str]:
        rows = self._reading().agents.values()
        return sorted(row.name for row in rows if row.parent is None and row.planned and not row.reserved)

    async def spawn(self, parent: str, child: NewChild) -> bool:
        check_text("The parent", parent)
        check_child(child)
        to_json("The child", child)
        database = self._writing()
        above = _planned(database, parent)
        if not above.permissions.create_children:
            raise NoAuthority(f"{above.name} may not create children; it needs the right create_children")
        _refuse_excess(above, child.name, child.permissions)
        if not _is_new(database, above, child):
            return False
        _refuse_bounds(database, above)
        row = database.agents.get(child.id.lower()) or database.add_agent(child.name, child.id)
        row.planned, row.desired, row.orphaned, row.died_at = True, "running", False, None
        row.parent, row.version, row.source = above.id, child.version, child.source
        row.granted = {**_DEFAULTS, **child.permissions}
        row.bounds = above.bounds
        row.roles, row.replicas, row.balance, row.orphans = child.roles, 1, "room", child.orphans
        row.birth = BirthRow(above.id, child.version, child.secrets)
        row.updated_at = database.now()
        versions = database.characters.setdefault(row.id, {})
        versions.pop(child.version, None)
        versions[child.version] = copy.deepcopy(child.character)
        settle_rights(database)
        return True

    async def set_verifier(self, agent_id: str, verifier: str) -> bool:
        row = self._writing().agents.get(check_id("agent", agent_id))
        return row is not None and row.birth is not None and row.planned and verifier.startswith("SCRAM-")

    async def command_child(self, parent: str, child: str, desired: Desired | None) -> str:
        check_text("The child", parent, child)
        database = self._writing()
        row = _controlled(database, parent, child)
        if desired is not None:
            database.want(row, desired)
        return row.name

    async def remove_child(self, parent: str | None, child: str) -> str:
        check_text("The child", parent, child)
        database = self._writing()
        row = _any(database, child) if parent is None else _controlled(database, parent, child)
        _refuse_planned(
            row, f"The agent {row.name} is in the swarm file; take it out there and run swarm up."
        )
        if row.planned:
            row.planned, row.desired, row.orphaned, row.updated_at = False, "stopped", False, database.now()
        reject_without_authority(database)
        return row.name

    async def permit(self, agent: str, rights: Mapping[str, bool]) -> None:
        check_text("The agent", agent)
        check_rights(rights)
        database = self._writing()
        row = _planned(database, agent)
        _refuse_planned(
            row, f"The rights of {row.name} stand in the swarm file; change them there and run swarm up."
        )
        if row.parent is not None:
            _refuse_excess(database.agents[row.parent], row.name, rights)
        row.granted, row.updated_at = {**row.granted, **rights}, database.now()
        settle_rights(database)

    async def settle_death(self, agent: str) -> list[str]:
        database = self._writing()
        dead = database.names.get(agent)
        if dead is None or dead.reserved or dead.died_at is not None:
            return []
        dead.died_at = database.now()
        orphans = list(children_of(database, dead))
        if dead.orphans == "keep":
            return []
        if dead.orphans == "stop":
            orphans = [row for row in orphans if row.desired == "running"]
        for row in orphans:
            if dead.orphans == "stop":
                row.desired, row.orphaned = "stopped", True
            else:
                row.parent = dead.parent
            row.updated_at = database.now()
        settle_rights(database)
        return sorted(row.name for row in orphans)

    async def settle_return(self, agent: str) -> list[str]:
        database = self._writing()
        row = database.names.get(agent)
        if row is None or row.died_at is None:
            return []
        row.died_at = None
        orphans = [child for child in children_of(database, row) if child.orphaned]
        for child in orphans:
            database.want(child, "running")
        return sorted(child.name for child in orphans)


_DEFAULTS = msgspec.to_builtins(CHILD_PERMISSIONS)


def children_of(database: MemoryDatabase, row: AgentRow) -> Iterator[AgentRow]:
    return (child for child in list(database.agents.values()) if child.parent == row.id and child.planned)


def ancestors_of(database: MemoryDatabase, row: AgentRow) -> Iterator[AgentRow]:
    """From its parent up to the root."""
    while row.parent is not None:
        row = database.agents[row.parent]
        yield row


def settle_rights(database: MemoryDatabase) -> None:
    """An agent has a right when it was declared for it and everyone above has it."""
    rows = [row for row in database.agents.values() if not row.reserved]
    rows.sort(key=lambda row: sum(1 for _ in ancestors_of(database, row)))
    for row in rows:
        rights = {**_DEFAULTS, **row.granted}
        if row.parent is not None:
            above = msgspec.to_builtins(database.agents[row.parent].permissions)
            rights = {right: given and above[right] for right, given in rights.items()}
        permissions = AgentPermissions(**rights)
        if permissions != row.permissions:
            row.permissions, row.updated_at = permissions, database.now()
    reject_without_authority(database)


def reject_without_authority(database: MemoryDatabase) -> None:
    """Authority is checked at assignment too: what waits without it any more goes no further."""
    for delivery in list(database.deliveries.values()):
        if delivery.state != "accepted" or delivery.message.kind != "task" or delivery.recipient is None:
            continue
        sender = database.agents[delivery.message.sender]
        if not database.authority(sender, database.agents[delivery.recipient]):
            database.end_delivery(delivery, "dead", "No authority over this agent", "rejected")


def _any(database: MemoryDatabase, address: str) -> AgentRow:
    row = database.names.get(address) or database.agents.get(address.lower())
    if row is None or row.reserved:
        raise database.unknown(address)
    return row


def _planned(database: MemoryDatabase, address: str) -> AgentRow:
    row = _any(database, address)
    if not row.planned:
        raise database.unknown(address)
    return row


def _controlled(database: MemoryDatabase, parent: str, child: str) -> AgentRow:
    row = database.names.get(child) or database.agents.get(child.lower())
    if row is None or row.reserved or not row.planned:
        raise UnknownChild(child)
    above = database.names.get(parent)
    if above is None or row.parent != above.id or not above.permissions.control_children:
        raise NoAuthority
    return row


def _refuse_planned(row: AgentRow, text: str) -> None:
    if row.birth is None:
        raise StoreError(text, reason="id_taken")


def _refuse_excess(parent: AgentRow, name: str, rights: Mapping[str, bool]) -> None:
    for right, given in sorted(rights.items()):
        if given and not getattr(parent.permissions, right):
            raise NoAuthority(
                f"{name} would have {right}, which its parent {parent.name} has not; "
                "a child's rights never exceed its parent's"
            )


def _refuse_bounds(database: MemoryDatabase, parent: AgentRow) -> None:
    depth, limits = sum(1 for _ in ancestors_of(database, parent)), database.limits
    if depth >= limits.depth:
        raise Refused(
            f"{parent.name} is {depth} generations below its root, which is the most that [limits] depth allows: "
            "it cannot have children.",
            reason="hierarchy",
        )
    if sum(1 for _ in children_of(database, parent)) >= limits.children:
        raise Refused(
            f"{parent.name} has {limits.children} children, which is the most that [limits] children allows; "
            "remove one first.",
            reason="hierarchy",
        )
    if parent.desired == "stopped":
        raise Refused(
            f"{parent.name} is stopped, and a child is born to a parent that lives; start it first.",
            reason="hierarchy",
        )


def _is_new(database: MemoryDatabase, parent: AgentRow, child: NewChild) -> bool:
    """False for the same child. Raises StoreError when its name or id is another's (A11)."""
    known = database.names.get(child.name)
    if known is not None and known.id != child.id.lower():
        raise _taken(
            f"The agent {child.name} is known under another id than {child.id}; one name is one character. "
            "Give the new one another name."
        )
    by_id = database.agents.get(child.id.lower())
    if by_id is not None and by_id.name != child.name:
        raise _taken(
            f"The id {child.id} of {child.name} is taken by the agent {by_id.name}; "
            "give the character another name or id."
        )
    if known is None:
        return True
    if not known.planned:
        if any(known is one for one in (parent, *ancestors_of(database, parent))):
            raise Refused(f"{child.name} would be its own ancestor.", reason="hierarchy")
        return True
    if known.birth is None:
        raise _taken(
            f"The agent {child.name} is in the swarm file already; give the child's character another name."
        )
    if known.birth.version != child.version:
        raise _taken(
            f"The agent {child.name} lives with another character; remove it first, or give this one another name."
        )
    if known.birth.of != parent.id:
        mother = database.name(known.birth.of)
        raise _taken(f"The agent {child.name} is a child of {mother}; give this one another name.")
    return False


def _taken(text: str) -> StoreError:
    return StoreError(text, reason="id_taken")
