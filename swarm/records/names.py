"""The names that are no agents."""

from __future__ import annotations

from typing import Final

OPERATOR: Final = "operator"
"""The person at the command line; a row in `agents` so that a sender is always somebody."""
COORDINATOR: Final = "coordinator"
RESERVED_NAMES: Final = frozenset({OPERATOR, COORDINATOR, "node", "all", "parent", "children", "role"})
