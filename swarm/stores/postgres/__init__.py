"""The store and the ledger on Postgres ≥ 15. A swarm lives in its own schema, an agent logs in with its own role.

ledger = PostgresLedger(url, "survey");  await ledger.init()
await ledger.provision(plans, passwords)
store = PostgresStore(agent_url(url, "survey", id, password), "survey", name, id)
"""

from swarm.stores.postgres.ledger import PostgresLedger
from swarm.stores.postgres.names import agent_url, role_name, schema_name
from swarm.stores.postgres.store import PostgresStore

__all__ = ["PostgresLedger", "PostgresStore", "agent_url", "role_name", "schema_name"]
