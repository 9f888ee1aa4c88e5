"""Every subject, spelled once. One door up, one door down.

    <swarm>.up.<agent>.<verb>        agent → coordinator; the only place where an agent may publish
    <swarm>.down.<agent>.<instance>  coordinator → instance; the only place where it may listen, with
    _INBOX.<agent>.>                 replies to its own asks, and
    <swarm>.all                      what the coordinator says to everyone
    <swarm>.node.<node>.up.<verb>    node → coordinator
    <swarm>.node.<node>.down         coordinator → node
    <swarm>.ctl.<operator>.<verb>    operators: command line, dashboards, gateways

The sender is a token of the subject and the server lets nobody publish under another's.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

from bus.errors import BadMessage

ASK_TEMPLATE: Final = "{swarm}.up.{agent}.ask"
DOWN_TEMPLATE: Final = "{swarm}.down.{agent}.{instance}"
"""Subjects as spans name them: without whose they are."""

UpVerb = Literal["hello", "beat", "bell", "goodbye", "ask", "tell", "control", "spawn", "child"]


class Door(NamedTuple):
    """Where a message came in: who the server says it is from, and the verb."""

    sender: str
    verb: str


class Subjects:
    """The subjects of one swarm; `swarm` is a single token."""

    def __init__(self, swarm: str) -> None:
        self.swarm = swarm
        self.all = f"{swarm}.all"
        self.every_up = f"{swarm}.up.*.*"
        self.every_ctl = f"{swarm}.ctl.*.*"
        self.every_node_up = f"{swarm}.node.*.up.*"

    def up(self, agent: str, verb: str) -> str:
        return f"{self.swarm}.up.{agent}.{verb}"

    def down(self, agent: str, instance: str) -> str:
        return f"{self.swarm}.down.{agent}.{instance}"

    def node_up(self, node: str, verb: str) -> str:
        return f"{self.swarm}.node.{node}.up.{verb}"

    def node_down(self, node: str) -> str:
        return f"{self.swarm}.node.{node}.down"

    def ctl(self, operator: str, verb: str) -> str:
        return f"{self.swarm}.ctl.{operator}.{verb}"

    def door(self, subject: str) -> Door:
        """Sender and verb of a subject under `up`, `ctl` or `node.*.up`. Raises BadMessage for others."""
        match subject.split("."):
            case [swarm, "up" | "ctl", sender, verb] if swarm == self.swarm:
                return Door(sender, verb)
            case [swarm, "node", sender, "up", verb] if swarm == self.swarm:
                return Door(sender, verb)
        raise BadMessage(f"Nothing of swarm {self.swarm} comes in at {subject}.")


def inbox(name: str) -> str:
    """The prefix under which `name` gets its replies (nats-py's `inbox_prefix`)."""
    return f"_INBOX.{name}"


def owner_of(reply: str) -> str:
    """Whose inbox `reply` would be; check it with `is_inbox_of`."""
    return reply.removeprefix("_INBOX.").partition(".")[0]


def is_inbox_of(name: str, reply: str) -> bool:
    """Whether `reply` lies in the inbox of `name`: any other reply address is foreign and not honoured."""
    return reply.startswith(f"_INBOX.{name}.") and not any(mark in reply for mark in "*> ")
