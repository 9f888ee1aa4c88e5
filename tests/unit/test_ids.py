"""Ids: A11's vectors to the bit, time order of new ids, and derived ids that a retry repeats."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarm.ids import derived_id, is_uuid, new_id, string_to_uuid

VECTORS = {
    "Eliza": "b850bc30-45f8-0041-a00a-83df46d8555d",
    "DefaultAgent": "f5bb7b65-fbf0-0ff7-ab79-b51bf69eebe8",
    "user": "12dea96f-ec20-0935-a6ab-75692c994959",
    "agent 7": "160acb66-1359-012a-b836-7e2d11c0a890",
    "Ünïcode ☃": "e9967329-976e-075f-9c51-b7bbeba02283",
    "": "da39a3ee-5e6b-0b0d-b255-bfef95601890",
}


@pytest.mark.parametrize(("text", "expected"), VECTORS.items())
def test_a_name_gives_the_id_elizaos_gives(text: str, expected: str) -> None:
    assert string_to_uuid(text) == expected


@pytest.mark.parametrize("spelling", [VECTORS["Eliza"], VECTORS["Eliza"].upper()])
def test_a_uuid_is_returned_as_is(spelling: str) -> None:
    assert string_to_uuid(spelling) == spelling


@pytest.mark.parametrize(
    "almost", [VECTORS["Eliza"] + "0", "{" + VECTORS["Eliza"] + "}", VECTORS["user"] + "\n"]
)
def test_what_only_resembles_a_uuid_is_a_name(almost: str) -> None:
    assert not is_uuid(almost)
    assert string_to_uuid(almost) != almost


def test_a_lone_surrogate_has_no_id() -> None:
    with pytest.raises(ValueError, match="lone surrogate"):
        string_to_uuid("\ud800")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_gives_a_uuid_with_version_0_and_the_rfc_variant(text: str) -> None:
    made = UUID(string_to_uuid(text))
    if not is_uuid(text):
        assert made.hex[12] == "0"
        assert made.hex[16] in "89ab"


def test_new_ids_are_uuid7_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(2_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    assert {UUID(made).version for made in ids} == {7}
    assert all(made == str(UUID(made)) for made in ids)


def test_a_new_id_carries_its_millisecond_and_sorts_within_it() -> None:
    at = 1_700_000_000_123_000_000
    assert UUID(new_id(at)).int >> 80 == at // 1_000_000
    assert new_id(at) < new_id(at + 500_000) < new_id(at + 999_999) < new_id(at + 1_000_000)


def test_derived_ids_repeat_and_keep_their_parts_apart() -> None:
    assert derived_id("task", 1) == derived_id("task", "1") == derived_id("task", 1)
    assert derived_id("a", "bc") != derived_id("ab", "c")
    assert derived_id("a") != derived_id("a", "")
    assert UUID(derived_id("a")).version == 5
    with pytest.raises(ValueError, match="at least one part"):
        derived_id()


def test_a_derived_id_stays_the_same_across_releases() -> None:
    assert derived_id("task", 1) == "8872aaa4-c285-5a28-ab93-87a61f25964b"
