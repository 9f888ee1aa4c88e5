from tests.contract.store_fixtures import postgres_server, postgres_url, postgres_world, world, world_url

__all__ = ["postgres_server", "postgres_url", "postgres_world", "world", "world_url"]
