"""Subjects, patterns, inboxes and permissions: who may say what where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.door import inbox_to_answer
from bus.errors import BadMessage
from bus.patterns import check_pattern, check_subject, covers
from bus.permissions import (
    agent_permissions,
    coordinator_permissions,
    node_permissions,
    operator_permissions,
    role_of_name,
)
from bus.subjects import Door, Subjects, is_inbox_of

S = Subjects("t")


@pytest.mark.parametrize(
    ("subject", "door"),
    [
        (S.up("a", "ask"), Door("a", "ask")),
        (S.ctl("operator-x", "stop"), Door("operator-x", "stop")),
        (S.node_up("node-m", "beat"), Door("node-m", "beat")),
    ],
)
def test_a_door_tells_sender_and_verb(subject: str, door: Door) -> None:
    assert S.door(subject) == door


@pytest.mark.parametrize(
    "subject",
    [
        "",
        "t",
        "t.up.a",
        "t.up.a.ask.more",
        "x.up.a.ask",
        "t.down.a.1",
        "t.node.n.down",
        "t.all",
        "_INBOX.a.1",
    ],
)
def test_what_came_by_no_door_is_a_bad_message(subject: str) -> None:
    with pytest.raises(BadMessage):
        S.door(subject)


@pytest.mark.parametrize(
    "reply", ["_INBOX.b.1", "_INBOX.ab.1", "_INBOX.a", "_INBOX.a.*", "_INBOX.a.>", "t.all", ""]
)
def test_a_foreign_reply_address_is_nobodys_inbox(reply: str) -> None:
    assert is_inbox_of("a", "_INBOX.a.1.2")
    assert not is_inbox_of("a", reply)


@pytest.mark.parametrize(
    ("subject", "reply", "owner"),
    [
        ("t.up.a.ask", "_INBOX.a.1", "a"),
        ("t.up.a.ask", "_INBOX.b.1", None),
        ("t.ctl.operator-x.stop", "_INBOX.operator-x.1", "operator-x"),
        ("t.ctl.operator-x.stop", "_INBOX.a.1", None),
        ("t.node.node-m.up.beat", "_INBOX.node-m.1", "node-m"),
        ("t.node.node-m.up.beat", "_INBOX.a.1", None),
        ("t.down.a.1", "_INBOX.b.1", "b"),
        ("t.down.a.1", "t.up.b.ask", None),
        ("t.down.a.1", "_INBOX..1", None),
        ("t.down.a.1", "_INBOX.*.1", None),
        ("t.down.a.1", None, None),
        ("t.down.a.1", "_INBOX.b." + "x" * 5000, None),
    ],
)
def test_a_bad_message_is_answered_in_its_senders_inbox_only(
    subject: str, reply: str | None, owner: str | None
) -> None:
    assert inbox_to_answer(subject, reply) == owner


@pytest.mark.parametrize(
    "bad", ["", ".", "a.", ".a", "a..b", "a b", "a\tb", "a\r\nPUB x 0", "ä", "a\x00b", "a" * 1025]
)
def test_what_is_no_subject_and_no_pattern(bad: str) -> None:
    with pytest.raises(BadMessage):
        check_subject(bad)
    with pytest.raises(BadMessage):
        check_pattern(bad)


@pytest.mark.parametrize("pattern", ["*", ">", "a.*", "a.>", "*.b.>", "a.*.c"])
def test_patterns_may_be_listened_to_but_not_published_on(pattern: str) -> None:
    assert check_pattern(pattern) == pattern
    with pytest.raises(BadMessage):
        check_subject(pattern)


@pytest.mark.parametrize("bad", ["a.>.b", "a>", "a*", "*a", ">>", "**", "> "])
def test_misplaced_wildcards_are_no_pattern(bad: str) -> None:
    with pytest.raises(BadMessage):
        check_pattern(bad)


@pytest.mark.parametrize(
    ("pattern", "other", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a", False),
        ("a", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("a.>", "a", False),
        ("a.>", "a.b", True),
        ("a.>", "a.b.c", True),
        (">", "a.b", True),
        ("a.*", "a.*", True),
        ("a.b", "a.*", False),
        ("a.*", "a.>", False),
        ("a.>", "a.>", True),
        ("a.>", ">", False),
        (">", ">", True),
        ("*", ">", False),
        ("a.*.c", "a.>", False),
    ],
)
def test_covers(pattern: str, other: str, expected: bool) -> None:
    assert covers(pattern, other) is expected


words = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)
wild = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=3)


@given(wild, st.booleans(), wild, st.booleans(), words)
def test_what_covers_a_pattern_covers_all_that_the_pattern_covers(
    outer: list[str], outer_rest: bool, inner: list[str], inner_rest: bool, subject: list[str]
) -> None:
    wide = ".".join(outer + [">"] * outer_rest)
    narrow = ".".join(inner + [">"] * inner_rest)
    if covers(wide, narrow) and covers(narrow, ".".join(subject)):
        assert covers(wide, ".".join(subject))


def test_an_agents_rights_are_its_own_door_and_its_own_inbox() -> None:
    rights = agent_permissions(S, "a")
    assert rights.may_publish("t.up.a.ask")
    for subject in ("t.up.b.ask", "t.up.a", "t.down.a.1", "t.all", "t.ctl.a.x", "_INBOX.a.1", "u.up.a.ask"):
        assert not rights.may_publish(subject)
    for pattern in ("t.down.a.1", "t.down.a.>", "_INBOX.a.x.*", "t.all"):
        assert rights.may_subscribe(pattern)
    for pattern in (">", "t.>", "t.down.*.1", "t.down.b.1", "_INBOX.>", "_INBOX.*.1", "t.up.>", "t.ctl.>"):
        assert not rights.may_subscribe(pattern)
    assert rights.responses is not None and rights.responses[0] >= 4096


def test_the_other_roles() -> None:
    coordinator = coordinator_permissions(S)
    for subject in (S.down("a", "1"), S.all, S.node_down("node-m"), "_INBOX.a.1"):
        assert coordinator.may_publish(subject)
    for pattern in (S.every_up, S.every_ctl, S.every_node_up, "_INBOX.coordinator.x.*"):
        assert coordinator.may_subscribe(pattern)
    assert not coordinator.may_subscribe("_INBOX.a.1") and not coordinator.may_publish("t.up.a.ask")
    node = node_permissions(S, "node-m")
    assert node.may_publish(S.node_up("node-m", "beat")) and node.may_subscribe(S.node_down("node-m"))
    assert not node.may_publish(S.node_down("node-m")) and not node.may_subscribe(S.node_down("node-n"))
    operator = operator_permissions(S, "operator-x")
    assert operator.may_publish(S.ctl("operator-x", "stop")) and not operator.may_publish(
        S.ctl("operator-y", "stop")
    )
    assert operator.may_subscribe("_INBOX.operator-x.1.*") and not operator.may_subscribe(S.all)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("reader", "agent"),
        ("nodes", "agent"),
        ("coordinator-2", "agent"),
        ("node", "node"),
        ("node-m", "node"),
        ("operator-cli", "operator"),
        ("coordinator", "coordinator"),
        ("all", None),
    ],
)
def test_a_name_tells_its_only_role(name: str, role: str | None) -> None:
    assert role_of_name(name) == role
