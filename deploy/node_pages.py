"""A node's pages: `/health`, `/ready` and `/metrics`. What its agents count they tell elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from swarm.metrics.family import Family, counter, gauge

if TYPE_CHECKING:
    from deploy.node import Node


async def serve_pages(address: str, node: Node) -> None:
    """Until cancelled; returns at once without an address."""
    if not address:
        return
    from swarm.metrics.pages import Pages

    async def ready() -> list[str]:
        return node.not_ready()

    async def read() -> Iterable[Family]:
        return families(node)

    await Pages(address, ready, read).run()


def families(node: Node) -> tuple[Family, ...]:
    rows = node.rows()
    restarts: Counter[str] = Counter()
    for row in rows:
        restarts[row.agent] += row.restarts
    statuses = Counter(row.status for row in rows)
    return (
        gauge("swarm_node_ready", "1 when an instance could be started.", [({}, int(not node.not_ready()))]),
        gauge(
            "swarm_node_instances",
            "Instances by the state of their process.",
            [({"status": status}, number) for status, number in sorted(statuses.items())],
        ),
        counter(
            "swarm_node_restarts_total",
            "Restarts of the instances that are here.",
            [({"agent": agent}, number) for agent, number in sorted(restarts.items())],
        ),
    )
