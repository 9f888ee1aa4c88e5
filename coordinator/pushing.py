"""What the coordinator knows of the swarm, pushed: see `swarm/metrics/pushing.py`, whose settings it has."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from swarm.errors import ConfigError
from swarm.metrics import otlp
from swarm.metrics.pushing import Push, push_settings
from swarm.records import COORDINATOR

if TYPE_CHECKING:
    from coordinator.families import CoordinatorFamilies
    from coordinator.service import Coordinator

log = logging.getLogger(__name__)


def coordinator_push(
    get_setting: Callable[[str], Any], swarm: str, families: CoordinatorFamilies, coordinator: Coordinator
) -> Push | None:
    """In OTLP only: the source's shape is an agent's. Settings that are of no use are an error in the log."""
    try:
        wanted = push_settings(get_setting)
    except ConfigError as error:
        log.error("%s Nothing is pushed.", error)  # noqa: TRY400 - one sentence, for a user's mistake
        return None
    if wanted is None or wanted.format != "otlp":
        return None
    since = time.time_ns()
    resource = {
        "service.name": COORDINATOR,
        "service.namespace": swarm,
        "service.instance.id": coordinator.holder,
    }

    async def body() -> dict[str, Any]:
        return otlp.export_request(await families.read(), resource, since=since, now=time.time_ns())

    return Push(wanted, body, coordinator.metrics.count_push)
