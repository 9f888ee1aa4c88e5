"""Which node a slot fits on: one that has all labels its agent wants, and a place left.

Of those the one is taken that has the fewest replicas of the same agent, so that a machine that dies takes few along;
then the one that is filled the least, as a share of its capacity; then the first by name. The same nodes with the
same load give the same choice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from coordinator.presence import Node

UNBOUND: Final = 1000
"""What a node without a bound counts as, beside one that has one."""


def belongs(node: Node | None, labels: Collection[str]) -> bool:
    """Whether an agent that wants these labels may run there at all."""
    return node is not None and node.labels.issuperset(labels)


def choose(
    nodes: Mapping[str, Node], labels: Collection[str], load: Counter[str], kin: Counter[str]
) -> str | None:
    """A node's name, or None when nothing fits. `load` counts instances by node, `kin` those of the same agent."""
    fitting = [
        node
        for node in nodes.values()
        if belongs(node, labels) and (not node.capacity or load[node.name] < node.capacity)
    ]
    if not fitting:
        return None
    return min(
        fitting,
        key=lambda node: (kin[node.name], (load[node.name] + 1) / (node.capacity or UNBOUND), node.name),
    ).name


def why_not(nodes: Mapping[str, Node], labels: Collection[str]) -> str:
    """Why `choose` found none, as a sentence for people."""
    able = [node for node in nodes.values() if belongs(node, labels)]
    if able:
        return f"no place is left: {_places(able)} full"
    return f"no node has {_all(sorted(set(labels)))} among its labels"


def _places(nodes: Iterable[Node]) -> str:
    said = [f"{node.name} ({node.capacity})" for node in sorted(nodes, key=lambda node: node.name)]
    return f"{', '.join(said)} {'is' if len(said) == 1 else 'are'}"


def _all(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
