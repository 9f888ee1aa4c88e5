"""What every store refuses before it writes: bad ids, NUL in text, plans that contradict themselves.

The same checks stand before each implementation, so that a test on the memory store meets the same walls.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from bus.envelope import MAX_HOPS
from bus.errors import Refused
from bus.permissions import role_of_name
from swarm.errors import StoreError, near
from swarm.ids import is_uuid
from swarm.records import (
    RESERVED_NAMES,
    AgentPermissions,
    AgentPlan,
    HierarchyLimits,
    NewChild,
    NewTask,
    Outgoing,
    Turn,
)
from swarm.scaling import MOST_REPLICAS

_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
MAX_DIMENSIONS: Final = 8192
RIGHTS: Final = AgentPermissions.__struct_fields__
MOST_HOPS: Final = 255
"""That the wire carries. Where a conversation ends the ledger says, because it notes it."""
MOST_REASON: Final = 1000
"""Characters of a reason that somebody gives; what is longer is cut."""
MOST_TASK_BYTES: Final = 1_000_000
"""Of a task's goal and input, so that its message fits into one envelope with its history."""
_encoder: Final = msgspec.json.Encoder()


def to_json(what: str, value: Any) -> str:
    """`value` as JSON that Postgres can keep. Raises StoreError for what it cannot: NUL, half characters."""
    try:
        encoded = _encoder.encode(value)
    except (TypeError, ValueError, UnicodeEncodeError, RecursionError) as error:
        raise StoreError(f"{what} cannot be written as JSON: {error}.", reason="not_json") from error
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise StoreError(
            f"{what} holds a NUL character, which no text in the store may; remove it.", reason="nul"
        )
    return encoded.decode()


def check_replicas(replicas: int) -> None:
    """Raises StoreError for a number of replicas that no swarm file may have either, but 0: that is none."""
    if not 0 <= replicas <= MOST_REPLICAS:
        raise StoreError(f"An agent has 0 to {MOST_REPLICAS} replicas, not {replicas}.", reason="replicas")


def check_text(what: str, *texts: str | None) -> None:
    """For text that goes to the database outside of JSON. Raises StoreError on NUL."""
    for text in texts:
        if text is not None and "\0" in text:
            raise StoreError(
                f"{what} holds a NUL character, which no text in the store may; remove it.", reason="nul"
            )


def check_id(what: str, id: str) -> str:
    """The id in its usual (lower-case) form. Raises StoreError for what is not a UUID."""
    if not is_uuid(id):
        raise StoreError(
            f"{id!r} is not an id for {what}: it takes a UUID, as new_id() makes them.", reason="bad_id"
        )
    return id.lower()


def _check_distinct(what: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id in ids:
        key = check_id(what, id)
        if key in seen:
            raise StoreError(f"The id {id} is there twice; each {what} needs its own.", reason="id_twice")
        seen.add(key)


def _check_length(what: str, text: str, most: int) -> None:
    if not 1 <= len(text) <= most:
        raise StoreError(f"{what} is {len(text)} characters long; it takes 1 to {most}.", reason="bad_length")


def check_outgoing(messages: Sequence[Outgoing]) -> None:
    """Raises StoreError for messages that nobody may send by hand, or that have no id or bounds."""
    _check_distinct("message", (m.id for m in messages))
    for message in messages:
        if message.kind not in ("tell", "announce"):
            raise StoreError(f"Nobody sends a {message.kind} by hand.", reason="bad_kind")
        _check_length("The address", message.to, 128)
        _check_length("The room", message.room, 200)
        if not 0 <= message.hops <= MOST_HOPS:
            raise Refused(f"{message.hops} hops are no number of hops.", reason="hops")


def _check_hops(hops: int) -> None:
    if not 0 <= hops <= MAX_HOPS:
        raise Refused(
            f"This conversation has gone through {hops} agents and {MAX_HOPS} is the bound; "
            "look for agents that answer each other.",
            reason="hops",
        )


def check_turn(turn: Turn) -> None:
    check_outgoing(turn.outgoing)
    for memory in turn.memories:
        check_id("memory", memory.id)


def check_room(room: str) -> None:
    check_text("The room", room)
    _check_length("The room", room, 200)


def check_vector(vector: Sequence[float]) -> tuple[float, ...]:
    """The vector at length 1. Raises StoreError for what has no direction: empty, all zero, not finite."""
    numbers = tuple(float(number) for number in vector)
    length = math.hypot(*numbers)
    if not 0 < length < math.inf or len(numbers) > MAX_DIMENSIONS:
        raise StoreError(
            f"This is no embedding: {len(numbers)} numbers of length {length:g}; it takes 1 to {MAX_DIMENSIONS} "
            "finite ones that are not all 0.",
            reason="bad_vector",
        )
    return tuple(number / length for number in numbers)


def check_embeddings(model: str, embeddings: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
    check_text("The model", model)
    _check_length("The model", model, 200)
    return {check_id("memory", id): check_vector(vector) for id, vector in embeddings.items()}


def check_search(
    text: str | None, embedding: Sequence[float] | None, model: str | None, room: str | None, kind: str | None
) -> tuple[float, ...] | None:
    """The vector at length 1. Raises StoreError for a search that cannot mean anything."""
    check_text("The search", text, model, room, kind)
    if text is None and embedding is None:
        raise StoreError("A search needs a text, an embedding, or both.", reason="bad_search")
    if embedding is None:
        return None
    if not model:
        raise StoreError(
            "A search by embedding needs the model that made it: vectors of two models do not compare.",
            reason="bad_search",
        )
    return check_vector(embedding)


def check_tasks(tasks: Sequence[NewTask]) -> None:
    _check_distinct("task", (t.id for t in tasks))
    for task in tasks:
        if task.parent_task is not None:
            check_id("task", task.parent_task)
        _check_hops(task.hops)
        size = len(to_json("The task", [task.goal, task.input]).encode())
        if size > MOST_TASK_BYTES:
            raise Refused(
                f"The goal and input of this task have {size:,} bytes and at most {MOST_TASK_BYTES:,} fit; "
                "put them in a file or the store and say where they are.",
                reason="too_large",
            )
        if task.max_attempts < 1:
            raise StoreError("A task needs at least 1 attempt.", reason="bad_attempts")


def check_rights(rights: Mapping[str, bool]) -> None:
    """Raises StoreError for a right that there is not."""
    for right, given in rights.items():
        if right not in RIGHTS or not isinstance(given, bool):
            raise StoreError(
                f"{right!r} is not a right that is given or not{near(right, RIGHTS)} There are: {', '.join(RIGHTS)}.",
                reason="rights",
            )


def check_child(child: NewChild) -> None:
    """Raises StoreError for a child that cannot be: its name, id, rights."""
    _check_name(child.name)
    check_id("agent", child.id)
    check_rights(child.permissions)
    _check_length("The version", child.version, 64)


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or is_uuid(name):
        raise StoreError(
            f"{name!r} is no name for an agent: letters, digits, - and _ make one.", reason="bad_name"
        )
    if name in RESERVED_NAMES or role_of_name(name) != "agent":
        raise StoreError(f"{name!r} is a name that the swarm keeps; choose another.", reason="reserved")


def check_plans(plans: Sequence[AgentPlan]) -> None:
    """Raises StoreError for plans that contradict themselves: names, ids, parents, rights, cycles."""
    by_name: dict[str, AgentPlan] = {}
    by_id: dict[str, str] = {}
    for plan in plans:
        _check_name(plan.name)
        if plan.name in by_name:
            raise StoreError(
                f"Two agents are called {plan.name!r}; give one another name.", reason="name_taken"
            )
        other = by_id.setdefault(check_id("agent", plan.id), plan.name)
        if other != plan.name:
            raise StoreError(
                f"The id {plan.id} of {plan.name} is taken by the agent {other}; give it its own.",
                reason="id_taken",
            )
        by_name[plan.name] = plan
    for plan in plans:
        if plan.parent is None:
            continue
        parent = by_name.get(plan.parent)
        if parent is None:
            raise StoreError(
                f"The parent {plan.parent!r} of {plan.name} is not planned{near(plan.parent, by_name)}",
                reason="no_parent",
            )
        for right in ("create_children", "control_children", "announce"):
            if getattr(plan.permissions, right) and not getattr(parent.permissions, right):
                raise StoreError(
                    f"{plan.name} would have {right}, which its parent {parent.name} has not; "
                    "a child's rights never exceed its parent's.",
                    reason="rights",
                )
        above: str | None = plan.parent
        seen = {plan.name}
        while above is not None:
            if above in seen:
                raise StoreError(f"{plan.name} would be its own ancestor; break the circle.", reason="cycle")
            seen.add(above)
            up = by_name.get(above)
            above = up.parent if up else None


def check_bounds(plans: Sequence[AgentPlan], limits: HierarchyLimits) -> None:
    """Raises Refused for a tree that is too deep or too wide."""
    parents = {plan.name: plan.parent for plan in plans}
    for plan in plans:
        depth, above = 0, plan.parent
        while above is not None:
            depth, above = depth + 1, parents[above]
        if depth > limits.depth:
            raise Refused(
                f"{plan.name} would be {depth} generations below its root, and [limits] depth is {limits.depth}.",
                reason="hierarchy",
            )
    for parent, children in Counter(parents.values()).items():
        if parent is not None and children > limits.children:
            raise Refused(
                f"{parent} would have {children} children, and [limits] children is {limits.children}.",
                reason="hierarchy",
            )


def check_groups(groups: Mapping[str, Sequence[str]], plans: Sequence[AgentPlan]) -> None:
    """Raises StoreError for a group with a name that cannot be addressed, or with a member that is not planned."""
    planned = {plan.name for plan in plans}
    for group, members in groups.items():
        if not _NAME.fullmatch(group):
            raise StoreError(
                f"{group!r} is no name for a group: letters, digits, - and _ make one.", reason="bad_name"
            )
        for member in members:
            if member not in planned:
                raise StoreError(
                    f"The group {group} has a member {member!r} that is not planned{near(member, planned)}",
                    reason="no_member",
                )
