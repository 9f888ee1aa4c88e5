"""The store and the ledger in memory: for tests, demonstrations and agents that keep nothing. Held to the same suite.

database = MemoryDatabase()
await database.ledger().provision(plans, {})
store = database.store("reader")
"""

from swarm.stores.memory.database import MemoryDatabase
from swarm.stores.memory.ledger import MemoryLedger
from swarm.stores.memory.store import MemoryStore

__all__ = ["MemoryDatabase", "MemoryLedger", "MemoryStore", "private_store"]


def private_store(name: str, agent_id: str) -> MemoryStore:
    """The store of an agent that is alone: a database of its own, gone with the process."""
    database = MemoryDatabase()
    database.add_agent(name, agent_id)
    return database.store(name)
