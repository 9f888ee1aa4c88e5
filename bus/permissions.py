"""Who may say what where. The server enforces it; the memory bus says the same.

Every function gives the rights of one name, or, for ``{{name()}}``, the template from which the server
makes the rights of whoever shows a credential of that role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from bus.patterns import any_covers
from bus.subjects import Subjects, inbox

Role = Literal["agent", "node", "operator", "coordinator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
TEMPLATE_NAME: Final = "{{name()}}"
"""Where the server puts the name of whoever connects."""
COORDINATOR: Final = "coordinator"
RESERVED: Final = frozenset({"coordinator", "operator", "node", "all"})
"""What no agent may be called."""
RESPONSES: Final = (4096, 15 * 60)
"""Answers that a reply address admits, and for how many seconds: a stream of chunks is many answers."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Patterns that one may publish on and subscribe to; everything else is refused.

    `responses` = (how many messages, for how many seconds) one may send to the reply address of a
    message that one received; None forbids it.
    """

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responses: tuple[int, int] | None = None

    def may_publish(self, subject: str) -> bool:
        """Whether without a message to answer; `responses` may allow more."""
        return any_covers(self.publish, subject)

    def may_subscribe(self, pattern: str) -> bool:
        return any_covers(self.subscribe, pattern)


def agent_permissions(subjects: Subjects, name: str) -> Permissions:
    return Permissions(
        publish=(f"{subjects.swarm}.up.{name}.>",),
        subscribe=(f"{subjects.swarm}.down.{name}.>", f"{inbox(name)}.>", subjects.all),
        responses=RESPONSES,
    )


def node_permissions(subjects: Subjects, node: str) -> Permissions:
    return Permissions(
        publish=(f"{subjects.swarm}.node.{node}.up.>",),
        subscribe=(subjects.node_down(node), f"{inbox(node)}.>", subjects.all),
        responses=RESPONSES,
    )


def operator_permissions(subjects: Subjects, operator: str) -> Permissions:
    """An operator asks and is answered; nothing is sent to it that it did not ask for."""
    return Permissions(publish=(f"{subjects.swarm}.ctl.{operator}.>",), subscribe=(f"{inbox(operator)}.>",))


def coordinator_permissions(subjects: Subjects) -> Permissions:
    """The only one who may send down, and the only one who hears everybody."""
    swarm = subjects.swarm
    return Permissions(
        publish=(f"{swarm}.down.>", subjects.all, f"{swarm}.node.*.down", "_INBOX.>"),
        subscribe=(f"{swarm}.up.>", f"{swarm}.ctl.>", f"{swarm}.node.*.up.>", f"{inbox(COORDINATOR)}.>"),
        responses=RESPONSES,
    )


def permissions_of(role: Role, subjects: Subjects, name: str = TEMPLATE_NAME) -> Permissions:
    match role:
        case "agent":
            return agent_permissions(subjects, name)
        case "node":
            return node_permissions(subjects, name)
        case "operator":
            return operator_permissions(subjects, name)
        case "coordinator":
            return coordinator_permissions(subjects)


def role_of_name(name: str) -> Role | None:
    """The only role that may bear `name`; None for ``all``, which nobody may.

    One inbox serves one name whatever its role, so a child agent that was named like an operator would
    read that operator's replies. The name therefore tells the role: ``node-…`` and ``operator-…`` (or the
    bare words), ``coordinator``; every other name is an agent's.
    """
    first = name.partition("-")[0]
    if first == "node" or first == "operator":
        return "node" if first == "node" else "operator"
    if name == COORDINATOR:
        return "coordinator"
    return None if name in RESERVED else "agent"
