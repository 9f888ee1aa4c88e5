"""What processes say among themselves: the bodies of ``control`` envelopes. docs/protocol.md explains them.

instance → coordinator   up.<agent>.hello (answered by Welcome) · beat · bell · goodbye
coordinator → everyone   all: RollCall
coordinator → instance   down.<agent>.<instance>: RollCall · Cancel · Probe (answered by a diagnosis)
agent → coordinator      up.<agent>.spawn: Spawn · child: ChildCommand, answered by a plain map
node → coordinator       node.<node>.up.hello · beat · exit · login (answered)
coordinator → node       node.<node>.down: Assignment
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from swarm.records import NewChild

BEAT_SECONDS: Final = 2.0
"""How often an instance and a node say that they live; three missed beats make them absent."""

Token = Annotated[str, Meta(min_length=1, max_length=63)]
Count = Annotated[int, Meta(ge=0, le=2**31)]
InstanceStatus = Literal["starting", "ready", "draining"]


class Hello(msgspec.Struct, frozen=True, omit_defaults=True, tag="hello"):
    """An instance is ready for work. `in_flight` are the deliveries it has in hand: they are not sent again.
    `capacity` bounds what is dispatched to it and not yet handled."""

    instance: Token
    version: Annotated[str, Meta(max_length=64)] = ""
    node: Annotated[str, Meta(max_length=63)] = ""
    pid: Count = 0
    capacity: Annotated[int, Meta(ge=1, le=10_000)] = 64
    in_flight: Annotated[tuple[int, ...], Meta(max_length=10_000)] = ()


class Welcome(msgspec.Struct, frozen=True, omit_defaults=True, tag="welcome"):
    epoch: int
    beat_seconds: float = BEAT_SECONDS


class Beat(msgspec.Struct, frozen=True, omit_defaults=True, tag="beat"):
    """Sent from the instance's event loop, so that a blocked loop shows. `in_flight` counts turns."""

    instance: Token
    status: InstanceStatus = "ready"
    in_flight: Count = 0
    queued: Count = 0
    rss_mb: float = 0.0
    turns: Count = 0
    errors: Count = 0


class Bell(msgspec.Struct, frozen=True, omit_defaults=True, tag="bell"):
    """A hint, never a fact: these deliveries are ended (their places are free), these agents have new mail
    in the ledger, and these deliveries were handed back unhandled (out of order, or the instance stops)."""

    instance: Annotated[str, Meta(max_length=63)] = ""
    done: Annotated[tuple[int, ...], Meta(max_length=10_000)] = ()
    to: Annotated[tuple[str, ...], Meta(max_length=10_000)] = ()
    returned: Annotated[tuple[int, ...], Meta(max_length=10_000)] = ()
    recall: bool = False
    """Tasks were ended that somebody may have in hand."""


class Cancel(msgspec.Struct, frozen=True, omit_defaults=True, tag="cancel"):
    """The ledger has ended these deliveries, which you have in hand: stop, clean up, and ring `done` for them. Said
    again until you do."""

    deliveries: Annotated[tuple[int, ...], Meta(max_length=10_000)]
    reason: Annotated[str, Meta(max_length=2000)] = ""


class Goodbye(msgspec.Struct, frozen=True, omit_defaults=True, tag="goodbye"):
    """The instance ends in good order; `returned` are deliveries it had and did not handle."""

    instance: Token
    returned: Annotated[tuple[int, ...], Meta(max_length=10_000)] = ()


class RollCall(msgspec.Struct, frozen=True, tag="roll_call"):
    """The coordinator is new, or does not know you: say hello (instances and nodes alike)."""

    epoch: int


class Probe(msgspec.Struct, frozen=True, tag="probe"):
    """How are you? Asked of one instance; its reply's body is the diagnosis (swarm/agent/diagnosis.py)."""


class Ancestor(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of those from whom a spawned agent inherits. `secrets` are the names that were handed down to it."""

    agent: Token
    agent_id: Annotated[str, Meta(max_length=64)]
    source: Annotated[str, Meta(max_length=4096)] = ""
    secrets: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()


class Placement(msgspec.Struct, frozen=True, omit_defaults=True):
    """One instance that a node should run. `slot` is 1 … replicas, and stable. A higher `generation` than
    the running one means: drain it and start anew (that is `swarm restart`). A spawned agent has a `heritage`:
    its ancestors, the one that is in the swarm file first; `secrets` are the names that it gets of theirs."""

    agent: Token
    agent_id: Annotated[str, Meta(max_length=64)]
    slot: Annotated[int, Meta(ge=1, le=10_000)]
    source: Annotated[str, Meta(max_length=4096)]
    version: Annotated[str, Meta(max_length=64)] = ""
    generation: Count = 0
    heritage: Annotated[tuple[Ancestor, ...], Meta(max_length=1000)] = ()
    secrets: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()


class Assignment(msgspec.Struct, frozen=True, omit_defaults=True, tag="assignment"):
    """All that a node should run: it starts what is missing and drains what is not named. Idempotent."""

    epoch: int
    placements: Annotated[tuple[Placement, ...], Meta(max_length=10_000)] = ()
    others: bool = False
    """Whether there are other nodes: what is placed here is placed there when this one falls silent, so a node that
    is cut off ends its instances."""


class Unresponsive(msgspec.Struct, frozen=True, omit_defaults=True, tag="unresponsive"):
    """To a node: this instance of yours has missed its beats; end it, and the slot is filled anew."""

    epoch: int
    agent: Token
    instance: Token


class NodeInstance(msgspec.Struct, frozen=True, omit_defaults=True):
    agent: Token
    slot: int
    instance: Token
    pid: Count
    status: Literal["starting", "running", "draining", "backoff", "quarantined", "stopped"] = "running"
    restarts: Count = 0
    generation: Count = 0
    reason: Annotated[str, Meta(max_length=1000)] = ""


class NodeBeat(msgspec.Struct, frozen=True, omit_defaults=True, tag="node_beat"):
    """A node's whole state, at hello, at every change and as a heartbeat."""

    node: Token
    pid: Count = 0
    instances: Annotated[tuple[NodeInstance, ...], Meta(max_length=10_000)] = ()
    capacity: Count = 0
    """How many instances may be placed here; 0: no bound."""
    labels: Annotated[tuple[Token, ...], Meta(max_length=64)] = ()
    enrols: bool = False
    """It holds the swarm's authority, so it can take in machines that were invited."""


class Exited(msgspec.Struct, frozen=True, omit_defaults=True, tag="exited"):
    """An instance's process is gone; the fastest word of it. `crashed` unless it ended in good order."""

    node: Token
    agent: Token
    instance: Token
    crashed: bool
    reason: Annotated[str, Meta(max_length=1000)] = ""


class Login(msgspec.Struct, frozen=True, tag="login"):
    """What a spawned agent's database role logs in with: a SCRAM verifier, which only its node can make. Answered
    when the role has it."""

    node: Token
    agent_id: Annotated[str, Meta(max_length=64)]
    verifier: Annotated[str, Meta(max_length=512)]

    def __repr__(self) -> str:
        return f"Login({self.node}, {self.agent_id})"


class Enrol(msgspec.Struct, frozen=True, tag="enrol"):
    """A machine that was invited asks for its keys; the coordinator passes it on to a node that `enrols`, whose answer
    goes straight back, sealed with the invitation's secret. `machine` is a word of its own choice: an invitation is
    good for one machine, which may ask again."""

    node: Token
    machine: Token


class Spawn(msgspec.Struct, frozen=True, omit_defaults=True, tag="spawn"):
    """An agent wants a child. `wait`: seconds until its answer, by which the child may be ready."""

    child: NewChild
    wait: Annotated[float, Meta(ge=0, le=3600)] = 0.0


class ChildCommand(msgspec.Struct, frozen=True, omit_defaults=True, tag="child"):
    child: Annotated[str, Meta(max_length=64)]
    action: Literal["stop", "start", "restart", "remove"]
    wait: Annotated[float, Meta(ge=0, le=3600)] = 0.0


InstanceSays = Hello | Beat | Bell | Goodbye
NodeSays = NodeBeat | Exited | Login | Enrol
CoordinatorSays = Welcome | RollCall | Cancel | Probe | Assignment | Unresponsive | Enrol


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """An operator's request on `ctl.<operator>.<verb>`; the reply's body is a plain JSON-able value."""

    args: dict[str, Any] = {}
