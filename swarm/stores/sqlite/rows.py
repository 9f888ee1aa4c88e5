"""Rows of the file as values, and vectors as bytes: little-endian float32."""

from __future__ import annotations

import sqlite3
import sys
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from swarm.records import AgentPermissions, AgentRecord, Content, Memory

_content: Final = msgspec.json.Decoder(Content)
_object: Final = msgspec.json.Decoder(dict[str, Any])
_words: Final = msgspec.json.Decoder(tuple[str, ...])


def to_memory(row: sqlite3.Row) -> Memory:
    return Memory(
        id=row["id"],
        room=row["room"],
        entity=row["entity"],
        content=_content.decode(row["content"]),
        kind=row["kind"],
        created_at=row["created_at"],
    )


def to_agent(row: sqlite3.Row) -> AgentRecord:
    return AgentRecord(
        id=row["id"],
        name=row["name"],
        version=row["version"],
        source=row["source"],
        parent=row["parent_name"],
        permissions=AgentPermissions(
            create_children=bool(row["create_children"]),
            control_children=bool(row["control_children"]),
            access_parent_memory=bool(row["access_parent_memory"]),
            announce=bool(row["announce"]),
        ),
        roles=_words.decode(row["roles"]),
        replicas=row["replicas"],
        balance=row["balance"],
        desired=row["desired"],
        status=row["status"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def to_object(text: str) -> dict[str, Any]:
    return _object.decode(text)


def to_blob(vector: Sequence[float]) -> bytes:
    return _little(array("f", vector)).tobytes()


def to_vector(blob: bytes | None) -> array[float] | None:
    if blob is None:
        return None
    vector = array("f")
    vector.frombytes(blob)
    return _little(vector)


def _little(vector: array[float]) -> array[float]:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
