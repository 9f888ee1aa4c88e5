"""docs/asyncapi.yaml says what the code does: the same structs, the same subjects, every verb."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest
import yaml

from bus.envelope import Envelope, ErrorBody, decode, encode, pack
from bus.permissions import permissions_of
from bus.subjects import Subjects, UpVerb
from deploy.asyncapi import SUBJECTS, document, operators_verbs, to_yaml
from swarm import protocol
from swarm.ids import new_id
from swarm.records import Content

PAGE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(PAGE.read_text(encoding="utf-8"))
    return loaded


def test_the_page_is_what_the_code_says_now() -> None:
    assert PAGE.read_text(encoding="utf-8") == to_yaml(), "run `make asyncapi`, and look at what changed"


def test_every_reference_leads_somewhere(page: dict[str, Any]) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                resolve(page, value["$ref"])
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(page)


def resolve(page: dict[str, Any], reference: str) -> Any:
    found: Any = page
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_has_the_shape_that_asyncapi_3_asks_for(page: dict[str, Any]) -> None:
    assert page["asyncapi"] == "3.0.0" and set(page["info"]) >= {"title", "version"}
    for name, channel in page["channels"].items():
        in_address = {part.split("}")[0] for part in channel["address"].split("{")[1:]}
        assert in_address == set(channel["parameters"]), name
        assert channel["messages"], f"nothing is said on {name}"
    for name, operation in page["operations"].items():
        assert operation["action"] in ("send", "receive")
        prefix = operation["channel"]["$ref"] + "/messages/"
        assert all(each["$ref"].startswith(prefix) for each in operation["messages"]), name
        if "reply" in operation:
            prefix = operation["reply"]["channel"]["$ref"] + "/messages/"
            assert all(each["$ref"].startswith(prefix) for each in operation["reply"]["messages"]), name
    for schema in page["components"]["schemas"].values():
        jsonschema.Draft7Validator.check_schema(schema)


def test_every_verb_and_every_struct_of_the_protocol_is_in_it(page: dict[str, Any]) -> None:
    """A new struct of swarm/protocol.py must be given a place in deploy/asyncapi.py."""
    addresses = {channel["address"] for channel in page["channels"].values()}
    # `control` is not spoken by anybody now.
    assert addresses >= {SUBJECTS.up("{agent}", verb) for verb in get_args(UpVerb) if verb != "control"}
    assert addresses >= {SUBJECTS.ctl("{operator}", verb) for verb in operators_verbs()}
    assert {"ps", "tell", "delegate", "stop"} <= set(operators_verbs())
    tagged = {
        kind.__name__
        for kind in vars(protocol).values()
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag
    }
    missing = tagged - set(page["components"]["schemas"])
    assert not missing, f"say in deploy/asyncapi.py where {missing} is said, then run `make asyncapi`"


BODIES: dict[str, msgspec.Struct] = {
    "Hello": protocol.Hello(instance="1-x7k2p9", capacity=4, in_flight=(3, 4)),
    "Beat": protocol.Beat(instance="1-x7k2p9", status="draining", rss_mb=7.5),
    "Bell": protocol.Bell(instance="1-x7k2p9", done=(17,), to=("ada",)),
    "Goodbye": protocol.Goodbye(instance="1-x7k2p9", returned=(4,)),
    "Welcome": protocol.Welcome(epoch=3),
    "RollCall": protocol.RollCall(epoch=3),
    "Ask": Content("hello", {"a": [1, None]}),
    "TaskDelivery": Content("do it", {"task": "t"}),
    "Error": ErrorBody("refused", "No.", "unknown_agent"),
    "NodeBeat": protocol.NodeBeat(
        "node", 7, (protocol.NodeInstance(agent="ada", slot=1, instance="1-x7k2p9", pid=8),)
    ),
    "Exited": protocol.Exited("node", "ada", "1-x7k2p9", True, "signal 9"),
}


@pytest.mark.parametrize("name", BODIES)
def test_what_the_code_sends_is_valid_by_the_page_and_what_it_refuses_is_not(
    page: dict[str, Any], name: str
) -> None:
    payload = page["components"]["messages"][name]["payload"]
    validator = jsonschema.Draft7Validator({**payload, "components": page["components"]})
    kind = payload["allOf"][1]["properties"]["kind"]["const"]
    sent = encode(
        Envelope(id=new_id(), sender="ada", to="coordinator", room="r", kind=kind, body=pack(BODIES[name]))
    )
    decode(sent)
    plain = msgspec.msgpack.decode(sent)
    assert [error.message for error in validator.iter_errors(plain)] == []
    for field, bad in {"kind": "shout", "room": "", "hops": 256, "id": "no spaces", "to": "a\x00b"}.items():
        assert not validator.is_valid(plain | {field: bad}), field
    assert not validator.is_valid({key: value for key, value in plain.items() if key != "sender"})


def test_an_agent_may_go_where_the_page_sends_it_and_hear_what_it_hears(page: dict[str, Any]) -> None:
    subjects = Subjects("s")
    rights = permissions_of("agent", subjects, "ada")
    fill = {"swarm": "s", "agent": "ada", "instance": "1-x", "name": "ada", "connection": "c", "ask": "1"}
    for name, channel in page["channels"].items():
        if name.startswith(("ctl_", "node_")):
            continue
        action = "send" if f"send_{name}" in page["operations"] else "receive"
        subject = channel["address"].format(**fill)
        allowed = rights.publish if action == "send" else rights.subscribe
        assert any(_matches(pattern, subject) for pattern in allowed), (name, subject)


def _matches(pattern: str, subject: str) -> bool:
    wanted, given = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return given[: len(wanted) - 1] == wanted[:-1] and len(given) >= len(wanted)
    return wanted == given


def test_two_runs_write_the_same() -> None:
    assert document() == document()
