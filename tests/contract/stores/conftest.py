from tests.contract.store_fixtures import (
    container_url,
    edge_url,
    postgres_server,
    postgres_url,
    postgres_world,
    sqlite_url,
    world,
    world_url,
)

__all__ = [
    "container_url",
    "edge_url",
    "postgres_server",
    "postgres_url",
    "postgres_world",
    "sqlite_url",
    "world",
    "world_url",
]
