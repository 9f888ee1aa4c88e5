"""Logs: one line each on stderr, with who says it and, inside a turn, which run and message it is about.

    2026-01-01T12:00:00.123Z INFO reader/1-x7k2p9 swarm.agent.acting run=… message=… action READ_FILE succeeded

or, with the format ``json``, the same as an object: `{"time", "level", "who", "logger", "run_id", "message_id", "text",
"exception"}`, the ids only inside a turn. Secrets do not get here: what holds one hides it in its repr, and what
slips through is taken out of the line (`redaction.py`).
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from swarm.redaction import Redaction

LogFormat = Literal["text", "json"]
FORMATS: Final[tuple[LogFormat, ...]] = ("text", "json")


class _Lines(logging.Formatter):
    def __init__(self, who: str, redaction: Redaction) -> None:
        super().__init__()
        self._who = who
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        run, message = _about()
        about = f"run={run} message={message} " if run else ""
        line = f"{_time(record)} {record.levelname} {self._who} {record.name} {about}{record.getMessage()}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return self._redaction(line)


class _Objects(logging.Formatter):
    def __init__(self, who: str, redaction: Redaction) -> None:
        super().__init__()
        self._who = who
        self._redaction = redaction

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, str] = {
            "time": _time(record),
            "level": record.levelname,
            "who": self._who,
            "logger": record.name,
        }
        run, message = _about()
        if run:
            said |= {"run_id": run, "message_id": message}
        said["text"] = self._redaction(record.getMessage())
        if record.exc_info:
            said["exception"] = self._redaction(self.formatException(record.exc_info))
        return json.dumps(said, ensure_ascii=False)


def configure_logging(level: str, who: str, format: LogFormat = "text") -> Redaction:
    """Once, at the start of a process. Returns what its lines are cleaned of, to be told of more.
    Raises ValueError for a level that logging does not know."""
    redaction = Redaction()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((_Objects if format == "json" else _Lines)(who, redaction))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return redaction


def telemetry_settings(given: Mapping[str, Any]) -> dict[str, str]:
    """Those of an environment's or a swarm file's settings that say where metrics and spans go."""
    from swarm.metrics.pushing import SETTINGS as METRICS
    from swarm.tracing.exporting import SETTINGS as TRACES

    return {name: str(given[name]) for name in (*METRICS, *TRACES) if given.get(name)}


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


def _about() -> tuple[str, str]:
    from swarm.agent.hand import current_turn

    turn = current_turn()
    return (turn.run_id, turn.message.id) if turn is not None else ("", "")
