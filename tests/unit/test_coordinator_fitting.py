"""Which node a slot goes to: pure choices, no servers."""

from __future__ import annotations

from collections import Counter

from coordinator.fitting import belongs, choose, why_not
from coordinator.presence import Node


def node(name: str, capacity: int = 0, *labels: str) -> Node:
    return Node(name, capacity=capacity, labels=frozenset(labels))


def spread(nodes: list[Node], slots: int, labels: tuple[str, ...] = ()) -> dict[str, int]:
    """So many agents of one instance each, placed one after the other."""
    named = {each.name: each for each in nodes}
    load: Counter[str] = Counter()
    for _ in range(slots):
        chosen = choose(named, labels, load, Counter())
        if chosen is not None:
            load[chosen] += 1
    return dict(load)


def test_equal_nodes_are_filled_evenly_and_the_same_way_each_time() -> None:
    nodes = [node("node"), node("node-2"), node("node-3")]
    assert spread(nodes, 10) == spread(nodes[::-1], 10) == {"node": 4, "node-2": 3, "node-3": 3}


def test_a_node_of_three_times_the_capacity_gets_three_times_as_much() -> None:
    assert spread([node("node", 30), node("node-2", 10)], 20) == {"node": 15, "node-2": 5}


def test_nothing_is_placed_beyond_the_capacity() -> None:
    assert spread([node("node", 2), node("node-2", 1)], 9) == {"node": 2, "node-2": 1}


def test_replicas_of_one_agent_lie_apart_even_where_one_node_is_fuller() -> None:
    nodes = {each.name: each for each in (node("node"), node("node-2"))}
    assert choose(nodes, (), Counter({"node-2": 5}), Counter({"node": 1})) == "node-2"


def test_all_labels_are_needed() -> None:
    nodes = [node("node", 0, "eu"), node("node-2", 0, "eu", "gpu")]
    assert spread(nodes, 3, ("gpu", "eu")) == {"node-2": 3}
    assert belongs(nodes[1], ["gpu"]) and not belongs(nodes[0], ["gpu"]) and not belongs(None, [])


def test_what_fits_nowhere_is_told_why() -> None:
    nodes = {each.name: each for each in (node("node", 2), node("node-2", 1, "gpu"))}
    assert why_not(nodes, ["tpu"]) == "no node has tpu among its labels"
    assert why_not(nodes, ["tpu", "eu"]) == "no node has eu and tpu among its labels"
    assert why_not(nodes, ["gpu"]) == "no place is left: node-2 (1) is full"
    assert why_not(nodes, []) == "no place is left: node (2), node-2 (1) are full"
