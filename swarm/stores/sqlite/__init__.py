"""The store of an agent that is alone, in one file of its own: for the edge, where no Postgres is.

store = private_store("ada.db", "ada", agent_id)

It keeps memories, embeddings, rooms and characters under the contract of `swarm.store`, and has no ledger:
alone, there is nobody to write to.
"""

from __future__ import annotations

from pathlib import Path

from swarm.stores.sqlite.database import SqliteDatabase
from swarm.stores.sqlite.store import SqliteStore

__all__ = ["SqliteDatabase", "SqliteStore", "private_store"]


def private_store(path: str | Path, name: str, agent_id: str) -> SqliteStore:
    """The store of one agent alone; it owns its file and closes it."""
    return SqliteStore(SqliteDatabase(path), name, agent_id, owner=True)
