"""Content as Postgres writes a jsonb: what its size and its hash are of."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec

from swarm.records import Content


def content_json(content: Content) -> str:
    """Keys by length, then by bytes; a blank after each comma and colon; numbers without an exponent."""
    return _written(msgspec.json.decode(msgspec.json.encode(content)))


def _written(value: Any) -> str:
    match value:
        case dict():
            keys = sorted(value, key=lambda key: (len(key.encode()), key.encode()))
            return "{" + ", ".join(f"{_written(key)}: {_written(value[key])}" for key in keys) + "}"
        case list():
            return "[" + ", ".join(map(_written, value)) + "]"
        case float():
            return format(Decimal(repr(value)), "f")
    return json.dumps(value, ensure_ascii=False)
