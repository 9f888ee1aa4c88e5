"""The wire as an AsyncAPI 3 document, made of the structs and subjects that the code itself speaks with.

`make asyncapi` writes docs/asyncapi.yaml; a test keeps it true. It describes what somebody who joins sends and
receives: an agent, a node or an operator. docs/protocol.md says what it means and in which order.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from bus.envelope import Envelope, ErrorBody
from bus.subjects import Subjects, inbox
from swarm import protocol
from swarm.records import Content

Schema = dict[str, Any]
SUBJECTS: Final = Subjects("{swarm}")
SCHEMAS: Final = "#/components/schemas/"
RECEIPT: Final = {
    "type": "object",
    "properties": {"id": {"type": "string"}, "recipients": {"type": "array", "items": {"type": "string"}}},
    "required": ["id", "recipients"],
}
ANYTHING: Final[Schema] = {}
PARAMETERS: Final = {
    "swarm": "The swarm's name.",
    "agent": "The agent's name: who publishes on up, and whose instance it is on down.",
    "instance": "The name of one process of the agent, new for each.",
    "node": "The node's name: node or node-….",
    "operator": "The operator's name: operator or operator-….",
    "name": "Whose inbox it is.",
    "connection": "A token of the connection.",
    "ask": "A token that was never used before.",
}

Body = type[msgspec.Struct] | Schema


class Said(NamedTuple):
    """One kind of message at one place. `kind` is the envelope's, `body` the shape of its body."""

    name: str
    kind: str
    body: Body


REPLY: Final = Said("Reply", "reply", Content)
ANSWER: Final = (REPLY, Said("Chunk", "chunk", Content), Said("Error", "error", ErrorBody))


class Place(NamedTuple):
    """A channel: who publishes there (we, or those we hear), what, and what is answered at the reply address."""

    id: str
    address: str
    action: Literal["send", "receive"]
    summary: str
    said: tuple[Said, ...]
    answers: tuple[Said, ...] = ()


def places() -> Iterator[Place]:
    yield from _of_agents()
    yield from _of_nodes()
    for verb, arguments in operators_verbs().items():
        body: Body = {
            "type": "object",
            "properties": {"args": {"$ref": SCHEMAS + arguments.__name__}},
        }
        said = Said(f"Command_{verb}", "control", body)
        answered = Said("Value", "reply", ANYTHING)
        summary = f"An operator's request {verb}; its answer is a plain value."
        address = SUBJECTS.ctl("{operator}", verb)
        yield Place(f"ctl_{verb}", address, "send", summary, (said,), (answered, ANSWER[2]))


def _of_agents() -> Iterator[Place]:
    def up(verb: str, summary: str, said: tuple[Said, ...], answers: tuple[Said, ...] = ()) -> Place:
        return Place(f"up_{verb}", SUBJECTS.up("{agent}", verb), "send", summary, said, answers)

    def control(body: type[msgspec.Struct]) -> Said:
        return Said(body.__name__, "control", body)

    error, value = ANSWER[2], Said("Value", "reply", ANYTHING)
    yield up(
        "hello", "An instance is ready for work.", (control(protocol.Hello),),
        (control(protocol.Welcome), error),
    )  # fmt: skip
    yield up("beat", "It lives.", (control(protocol.Beat),))
    yield up("bell", "Something changed in the ledger.", (control(protocol.Bell),))
    yield up("goodbye", "It ends in good order.", (control(protocol.Goodbye),))
    yield up("ask", "One reply, or one error, by the deadline.", (Said("Ask", "ask", Content),), ANSWER)
    yield up(
        "tell", "To be accepted on behalf of an agent without a database.",
        (Said("Tell", "tell", Content), Said("Announce", "announce", Content)),
        (Said("Receipt", "reply", RECEIPT), error),
    )  # fmt: skip
    yield up("spawn", "A child is wanted.", (control(protocol.Spawn),), (value, error))
    yield up(
        "child", "A child is stopped, started or removed.", (control(protocol.ChildCommand),), (value, error)
    )
    from_ledger = [
        Said(f"{kind.title()}Delivery", kind, Content)
        for kind in ("tell", "announce", "task", "result", "notice")
    ]
    commands = [control(one) for one in (protocol.RollCall, protocol.Cancel, protocol.Probe)]
    heard = (Said("Ask", "ask", Content), *from_ledger, *commands)
    yield Place(
        "down", SUBJECTS.down("{agent}", "{instance}"), "receive", "All that one process is to do.", heard, ANSWER
    )  # fmt: skip
    yield Place(
        "all", SUBJECTS.all, "receive", "The coordinator calls everyone.", (control(protocol.RollCall),)
    )
    address = f"{inbox('{name}')}.{{connection}}.{{ask}}"
    answers = (*ANSWER, control(protocol.Welcome), Said("Receipt", "reply", RECEIPT), value)
    yield Place("inbox", address, "receive", "The answers to one ask.", answers)


def _of_nodes() -> Iterator[Place]:
    says: dict[str, tuple[type[msgspec.Struct], str]] = {
        "hello": (protocol.NodeBeat, "A node is there, with all that it runs."),
        "beat": (protocol.NodeBeat, "A node lives, with all that it runs."),
        "exit": (protocol.Exited, "A process of an instance is gone."),
        "login": (protocol.Login, "What a spawned agent's database role logs in with."),
        "enrol": (protocol.Enrol, "A machine that was invited asks for its keys."),
    }
    for verb, (body, summary) in says.items():
        said = (Said(body.__name__, "control", body),)
        answers = (Said("Value", "reply", ANYTHING), ANSWER[2]) if verb in ("login", "enrol") else ()
        yield Place(f"node_{verb}", SUBJECTS.node_up("{node}", verb), "send", summary, said, answers)
    told = (
        Said("Assignment", "control", protocol.Assignment),
        Said("Unresponsive", "control", protocol.Unresponsive),
        Said("RollCall", "control", protocol.RollCall),
        Said("Enrol", "control", protocol.Enrol),
    )
    address = SUBJECTS.node_down("{node}")
    yield Place("node_down", address, "receive", "What a node should run, and whom it should end.", told)


def operators_verbs() -> dict[str, type[msgspec.Struct]]:
    """Each verb with the struct of its arguments, from the folder of the verbs."""
    package = importlib.import_module("coordinator.verbs")
    found: dict[str, type[msgspec.Struct]] = {}
    for module in pkgutil.iter_modules(package.__path__):
        loaded = importlib.import_module(f"{package.__name__}.{module.name}")
        for _, kind in inspect.getmembers(loaded, inspect.isclass):
            if kind.__module__ == loaded.__name__ and hasattr(kind, "verbs"):
                table = kind.verbs(kind.__new__(kind))  # the table needs no rooms: it only names methods
                found |= {verb: arguments for verb, (arguments, _) in table.items()}
    return dict(sorted(found.items()))


# ── the document ──────────────────────────────────────────────────────────────────────────────────
def document() -> Schema:
    """The whole of it, as plain values. Two calls give the same."""
    found = list(places())
    version = importlib.import_module("importlib.metadata").version("swarm-runtime")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "swarm: the wire",
            "version": version,
            "description": "Made by `make asyncapi`; docs/protocol.md says what it means. Every payload is one "
            "envelope in MessagePack over NATS core: no JetStream, no headers. As seen by who joins.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {"nats": {"host": "127.0.0.1:4222", "protocol": "nats", "description": "Of the project."}},
        "channels": {place.id: _channel(place) for place in found},
        "operations": {f"{place.action}_{place.id}": _operation(place) for place in found},
        "components": {"messages": _messages(found), "schemas": _schemas(found)},
    }


def _channel(place: Place) -> Schema:
    names = [part for part in PARAMETERS if f"{{{part}}}" in place.address]
    said = {one.name: {"$ref": f"#/components/messages/{one.name}"} for one in place.said}
    return {
        "address": place.address,
        "summary": place.summary,
        "messages": said,
        "parameters": {name: {"description": PARAMETERS[name]} for name in names},
    }


def _operation(place: Place) -> Schema:
    made: Schema = {
        "action": place.action,
        "summary": place.summary,
        "channel": {"$ref": f"#/channels/{place.id}"},
        "messages": [{"$ref": f"#/channels/{place.id}/messages/{one.name}"} for one in place.said],
    }
    if place.answers:
        made["reply"] = {
            "address": {
                "location": "$message.header#/reply",
                "description": "NATS's own reply field; honoured only in the sender's own inbox.",
            },
            "channel": {"$ref": "#/channels/inbox"},
            "messages": [{"$ref": f"#/channels/inbox/messages/{one.name}"} for one in place.answers],
        }
    return made


def _messages(found: list[Place]) -> Schema:
    made: Schema = {}
    for place in found:
        for one in place.said:
            body = one.body if isinstance(one.body, dict) else {"$ref": SCHEMAS + one.body.__name__}
            narrowed = {"type": "object", "properties": {"kind": {"const": one.kind}, "body": body}}
            payload = {"allOf": [{"$ref": SCHEMAS + "Envelope"}, narrowed]}
            made[one.name] = {"name": one.name, "title": one.name, "payload": payload}
    return dict(sorted(made.items()))


def _schemas(found: list[Place]) -> Schema:
    structs = {one.body for place in found for one in place.said if not isinstance(one.body, dict)}
    kinds = [Envelope, *structs, *operators_verbs().values()]
    _, schemas = msgspec.json.schema_components(kinds, ref_template=SCHEMAS + "{name}")
    cleaned: Schema = _portable(schemas)
    return dict(sorted(cleaned.items()))


def _portable(value: Any) -> Any:
    r"""JSON Schema's patterns are JavaScript's, which has no `\Z`; and descriptions on one line."""
    if isinstance(value, dict):
        return {
            key: each.replace(r"\Z", "$") if key == "pattern" and isinstance(each, str)
            else " ".join(each.split()) if key == "description" and isinstance(each, str)
            else _portable(each)
            for key, each in value.items()
        }  # fmt: skip
    return [_portable(each) for each in value] if isinstance(value, (list, tuple)) else value


def to_yaml() -> str:
    import yaml

    text: str = yaml.safe_dump(document(), sort_keys=False, width=110, allow_unicode=True)
    return "# Made by `make asyncapi` from the code; do not edit.\n" + text


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(to_yaml(), encoding="utf-8")
