"""What a swarm and its agents are called in Postgres: schema, roles, URLs."""

from __future__ import annotations

import re
from hashlib import sha1
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

MOST: Final = 26
"""So that `<schema>.<uuid>` fits into the 63 bytes of a role's name."""


def schema_name(swarm: str) -> str:
    """The schema of a swarm: its name if that will do, else a tamed form with a hash, never another swarm's."""
    tame = re.sub(r"[^a-z0-9_]", "_", swarm.lower())
    if tame == swarm and len(tame) <= MOST and re.match(r"[a-z_]", tame) and not _taken(tame):
        return tame
    tail = "_" + sha1(swarm.encode(), usedforsecurity=False).hexdigest()[:6]
    head = tame if re.match(r"[a-z_]", tame) and not tame.startswith("pg_") else f"s_{tame}"
    return head[: MOST - len(tail)] + tail


def _taken(name: str) -> bool:
    return name.startswith("pg_") or name in ("public", "information_schema")


def role_name(swarm: str, agent_id: str) -> str:
    """The role with which an agent logs in."""
    return f"{schema_name(swarm)}.{agent_id.lower()}"


def agents_role(schema: str) -> str:
    """The role of which all agents of a swarm are members; nobody logs in with it."""
    return f"{schema}.agents"


def identifier(name: str) -> str:
    """`name` quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def agent_url(url: str, swarm: str, agent_id: str, password: str) -> str:
    """The URL with which one agent connects: the server and database of `url`, its own role and password."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2]
    user = f"{quote(role_name(swarm, agent_id), safe='')}:{quote(password, safe='')}"
    query = urlencode(
        [(k, v) for k, v in parse_qsl(parts.query) if k not in ("user", "password", "passfile")]
    )
    return urlunsplit((parts.scheme, f"{user}@{hosts}", parts.path, query, ""))
