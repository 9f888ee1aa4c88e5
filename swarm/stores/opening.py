"""From a URL to the store of one agent: a server for an agent of a swarm, a file for one that is alone.

postgresql://user:password@host:5432/database      the ledger of a swarm
sqlite:///var/lib/ada/agent.db                     a file of its own, by its whole path
sqlite:./agent.db                                  the same, relative to the folder of the process
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from swarm.errors import ConfigError, near
from swarm.store import Store

SERVERS: Final = ("postgresql", "postgres")
FILES: Final = "sqlite"


def open_store(url: str, *, swarm: str, agent: str, agent_id: str) -> Store:
    """For the agent at work, not for a second pair of eyes. Opened at its first use. Raises ConfigError for a URL
    that names no store; it is never repeated there, because it may hold a password."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() in SERVERS:
        from swarm.stores.postgres import PostgresStore

        return PostgresStore(url, swarm, agent, agent_id, sole=True)
    if scheme.lower() == FILES:
        from swarm.stores.sqlite import private_store

        return private_store(file_of(rest), agent, agent_id)
    known = near(scheme, (*SERVERS, FILES)) if rest else "."
    raise ConfigError(
        f"The store's URL begins with {scheme!r}{known} Write postgresql://… for a swarm's database, "
        "or sqlite:./agent.db for an agent alone."
        if rest
        else "The store's URL has no scheme; write postgresql://… for a swarm's database, "
        "or sqlite:./agent.db for an agent alone."
    )


def file_of(rest: str) -> Path:
    """The file of what follows ``sqlite:``. Raises ConfigError for a host, options, or no file at all."""
    path = rest
    if rest.startswith("//"):
        host, slash, tail = rest[2:].partition("/")
        if host or not slash:
            raise ConfigError(
                f"The store's URL sqlite:{rest} names a host; a file has none: write sqlite:///whole/path.db "
                "with three strokes, or sqlite:./agent.db."
            )
        path = f"/{tail}"
    if any(sign in path for sign in "?#\0"):
        raise ConfigError(f"The store's URL sqlite:{rest} has options; a file takes none: leave out ? and #.")
    if path.endswith(("/", "/.", "/..")) or path in ("", ".", "..", ":memory:"):
        raise ConfigError(
            f"The store's URL sqlite:{rest} names no file; write sqlite:./agent.db or sqlite:///whole/path.db."
        )
    return Path(path)
