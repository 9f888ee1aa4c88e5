"""Logs: one line each on stderr, with who says it and, inside a turn, which run and message it is about.

    2026-01-01T12:00:00.123Z INFO reader/1-x7k2p9 swarm.agent.acting run=… message=… action READ_FILE succeeded

Secrets do not get here: what holds one hides it in its repr.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from typing import Any


class _Lines(logging.Formatter):
    def __init__(self, who: str) -> None:
        super().__init__()
        self._who = who

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = (
            f"{stamp}.{int(record.msecs):03d}Z {record.levelname} {self._who} {record.name} "
            f"{_about()}{record.getMessage()}"
        )
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _about() -> str:
    from swarm.agent.hand import current_turn

    turn = current_turn()
    return f"run={turn.run_id} message={turn.message.id} " if turn is not None else ""


def configure_logging(level: str, who: str) -> None:
    """Once, at the start of a process. Raises ValueError for a level that logging does not know."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(who))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def telemetry_settings(given: Mapping[str, Any]) -> dict[str, str]:
    """Those of an environment's or a swarm file's settings that say where metrics and spans go."""
    from swarm.metrics.pushing import SETTINGS as METRICS
    from swarm.tracing.exporting import SETTINGS as TRACES

    return {name: str(given[name]) for name in (*METRICS, *TRACES) if given.get(name)}
