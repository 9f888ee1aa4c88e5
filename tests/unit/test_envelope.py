"""The envelope: what goes in comes out, and nothing hostile gets past the door but as a BadMessage."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.envelope import (
    MAX_BYTES,
    VERSION,
    Envelope,
    ErrorBody,
    decode,
    encode,
    error_body,
    pack,
    raise_if_error,
    read_body,
)
from bus.errors import BadMessage, Failed, NobodyThere, Refused, error_from_wire

GOOD = {"v": 1, "id": "a1", "sender": "x", "to": "y", "room": "r", "kind": "ask", "body": None}

ids = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
names = st.from_regex(r"[A-Za-z0-9_-]{1,63}", fullmatch=True)
text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=100)
bodies = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
envelopes = st.builds(
    Envelope,
    id=ids,
    sender=names,
    to=text,
    room=text,
    kind=st.sampled_from(["ask", "tell", "announce", "task", "reply", "chunk", "error", "result", "control"]),
    body=bodies.map(pack),
    in_reply_to=st.none() | ids,
    deadline=st.none() | st.integers(0, 2**53),
    hops=st.integers(0, 255),
    traceparent=st.none() | st.from_regex(r"[0-9a-f-]{0,64}", fullmatch=True),
    delivery=st.none() | st.integers(0, 2**63 - 1),
    attempt=st.integers(0, 10_000),
)


@given(envelopes)
def test_what_was_encoded_is_decoded_as_it_was(envelope: Envelope) -> None:
    again = decode(encode(envelope))
    for field in msgspec.structs.fields(Envelope):
        if field.name != "body":
            assert getattr(again, field.name) == getattr(envelope, field.name)
    assert bytes(again.body) == bytes(envelope.body)


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_bad_message_or_an_envelope_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(BadMessage):
        assert isinstance(decode(data), Envelope)


@given(envelopes, st.data())
def test_a_truncated_message_is_a_bad_message(envelope: Envelope, data: st.DataObject) -> None:
    whole = encode(envelope)
    with pytest.raises(BadMessage):
        decode(whole[: data.draw(st.integers(0, len(whole) - 1))])


HOSTILE = [
    {"v": 2},
    {"v": 0},
    {"v": "1"},
    {"v": None},
    {"id": ""},
    {"id": "x" * 65},
    {"id": "a.b"},
    {"id": "a\n"},
    {"id": None},
    {"sender": "a b"},
    {"sender": "*"},
    {"sender": ">"},
    {"sender": "a.b"},
    {"sender": "x" * 64},
    {"to": "a\x00b"},
    {"to": ""},
    {"to": "x" * 129},
    {"room": "r\x00"},
    {"room": "r" * 201},
    {"kind": "shout"},
    {"kind": 3},
    {"in_reply_to": "a\x00"},
    {"deadline": -1},
    {"deadline": 2**53 + 1},
    {"deadline": 2**64 - 1},
    {"deadline": 1.5},
    {"hops": -1},
    {"hops": 256},
    {"traceparent": "00-" + "a" * 70},
    {"traceparent": "00-\x00"},
    {"traceparent": "héllo"},
    {"delivery": -1},
    {"delivery": 2**63},
    {"attempt": 10_001},
]


@pytest.mark.parametrize("wrong", HOSTILE, ids=str)
def test_every_field_is_bounded(wrong: dict[str, object]) -> None:
    decode(msgspec.msgpack.encode(GOOD))
    with pytest.raises(BadMessage):
        decode(msgspec.msgpack.encode(GOOD | wrong))


@pytest.mark.parametrize("missing", ["id", "sender", "to", "room", "kind", "body"])
def test_a_missing_field_is_a_bad_message(missing: str) -> None:
    with pytest.raises(BadMessage, match=missing):
        decode(msgspec.msgpack.encode({key: value for key, value in GOOD.items() if key != missing}))


def test_a_missing_version_is_version_1_and_unknown_fields_are_passed_over() -> None:
    """So that a later minor version may add fields."""
    later = {key: value for key, value in GOOD.items() if key != "v"} | {"colour": "blue"}
    assert decode(msgspec.msgpack.encode(later)).v == VERSION


@pytest.mark.parametrize(
    "nested", [b"\x91" * 100_000 + b"\xc0", b"\x91" * 100_000, b"\x81\xa1a" * 50_000 + b"\xc0"]
)
def test_a_hundred_thousand_nested_arrays_harm_nobody(nested: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(nested)
    hostile = msgspec.msgpack.encode(GOOD)[:-1] + nested  # as the body, which comes last
    try:
        envelope = decode(hostile)
    except BadMessage:
        return
    with pytest.raises(BadMessage):
        read_body(envelope, object)


def test_an_oversized_message_neither_leaves_nor_enters() -> None:
    large = Envelope(id="a", sender="x", to="y", room="r", kind="tell", body=pack("x" * MAX_BYTES))
    with pytest.raises(BadMessage, match="at most") as caught:
        encode(large)
    assert caught.value.reason == "too_large"
    with pytest.raises(BadMessage, match="bound"):
        decode(msgspec.msgpack.encode(GOOD | {"body": "x" * MAX_BYTES}))


@pytest.mark.parametrize("value", [2**70, -(2**70), object(), {"a": 2**64}, [{1: print}]])
def test_a_body_that_messagepack_cannot_carry_is_refused_when_packed(value: object) -> None:
    with pytest.raises(BadMessage) as caught:
        pack(value)
    assert caught.value.reason == "bad_body"


def test_a_body_that_is_its_own_part_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(BadMessage):
        pack(endless)


def test_a_body_of_another_type_is_a_bad_message_with_a_sentence() -> None:
    envelope = Envelope(id="a", sender="x", to="y", room="r", kind="error", body=pack([1, 2]))
    with pytest.raises(BadMessage, match="body of this error"):
        read_body(envelope, ErrorBody)
    with pytest.raises(BadMessage):
        raise_if_error(envelope)


def test_an_error_travels_with_its_code_text_and_reason() -> None:
    body = error_body(Refused("No such agent: reder; did you mean reader?", reason="unknown_agent"))
    envelope = Envelope(id="a", sender="x", to="y", room="r", kind="error", body=body)
    with pytest.raises(Refused, match="did you mean reader") as caught:
        raise_if_error(envelope)
    assert caught.value.reason == "unknown_agent"


def test_a_text_too_long_for_the_wire_is_cut_and_still_arrives() -> None:
    envelope = Envelope(
        id="a",
        sender="x",
        to="y",
        room="r",
        kind="error",
        body=error_body(NobodyThere("x" * 10_000, reason="y" * 200)),
    )
    with pytest.raises(NobodyThere) as caught:
        raise_if_error(envelope)
    assert len(caught.value.text) == 4096


def test_an_error_code_of_the_future_is_a_failure() -> None:
    assert type(error_from_wire("on_fire", "It burns.", "")) is Failed


def test_seconds_left() -> None:
    envelope = Envelope(id="a", sender="x", to="y", room="r", kind="ask", body=pack(None), deadline=10_000)
    assert envelope.seconds_left(8.0) == 2.0
    assert envelope.seconds_left(11.0) == -1.0
