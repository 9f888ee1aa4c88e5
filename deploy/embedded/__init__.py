"""Servers that come with us, for a swarm on one machine: `EmbeddedNats` and `EmbeddedPostgres`."""

from deploy.embedded.nats import EmbeddedNats
from deploy.embedded.postgres import EmbeddedPostgres
from deploy.embedded.server import EmbeddedServer, FolderTaken, PortTaken, ServerFailed

__all__ = ["EmbeddedNats", "EmbeddedPostgres", "EmbeddedServer", "FolderTaken", "PortTaken", "ServerFailed"]
