"""The store of an agent that is alone: a file, or a schema of its own in a Postgres that is named by DATABASE_URL.

In Postgres it has what an agent of a swarm has: the schema is migrated and the agent entered into its registry by
the user of the URL, and the agent itself logs in with a role of its own, which sees and writes no more than an
agent may. One schema for each agent: to a registry, whoever is not in its plan is an agent that was taken out.
"""

from __future__ import annotations

import hmac
import logging
import secrets
from urllib.parse import unquote, urlsplit

from swarm.character import Character
from swarm.errors import StoreDown, StoreError
from swarm.records import AgentPlan
from swarm.store import Store
from swarm.stores.opening import SERVERS, open_store

log = logging.getLogger(__name__)


async def store_of(url: str, swarm: str, name: str, character: Character) -> Store:
    """Raises ConfigError for a URL that names no store, StoreDown and StoreError for a database that is not there
    or does not let its user migrate."""
    if url.partition(":")[0].lower() in SERVERS:
        url = await _provisioned(url, swarm, name, character)
    return open_store(url, swarm=swarm, agent=name, agent_id=character.id)


async def _provisioned(url: str, swarm: str, name: str, character: Character) -> str:
    """Migrate and enter the agent; returns the URL with which the agent itself logs in."""
    from swarm.stores.postgres import PostgresLedger, agent_url

    password = _password(url, swarm, character.id)
    plan = AgentPlan(name=name, id=character.id, character=character.public(), version=character.version)
    ledger = PostgresLedger(url, swarm)
    try:
        await ledger.init()
        await ledger.provision([plan], {name: password})
    except StoreDown:
        raise
    except StoreError as error:
        raise StoreError(
            f"The database of DATABASE_URL does not take the agent in ({error.text.rstrip('.')}); its user must be "
            "able to create a schema and roles.",
            reason=error.reason,
        ) from error
    finally:
        await ledger.close()
    return agent_url(url, swarm, character.id, password)


def _password(url: str, swarm: str, agent_id: str) -> str:
    """The agent's own. From the URL's password, so that a second process of the agent has the same and takes none
    away; a URL without one gives a new one each time."""
    key = unquote(urlsplit(url).password or "")
    if not key:
        return secrets.token_urlsafe(32)
    return hmac.digest(key.encode(), f"swarm alone {swarm} {agent_id}".encode(), "sha256").hex()
