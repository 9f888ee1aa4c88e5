"""One metric with all its samples: the shape from which every format is made.

Labels are words from small sets (names of agents, actions, plugins, outcomes), never ids: each combination
is a series that somebody stores for months.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

FamilyKind = Literal["counter", "gauge", "histogram"]


class Buckets(NamedTuple):
    """Durations counted: `counts` has one number for each bound (at most so long) and one for what is longer."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def total(self) -> int:
        """How many durations there are."""
        return sum(self.counts)


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float | Buckets


class Family(NamedTuple):
    """`name` ends with its unit, and a counter's with ``_total``, as Prometheus has it; OTLP gets the same."""

    name: str
    help: str
    kind: FamilyKind
    samples: tuple[Sample, ...]


def counter(name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Family:
    return Family(name, help, "counter", tuple(Sample(*one) for one in samples))


def gauge(name: str, help: str, samples: Iterable[tuple[Mapping[str, str], float]]) -> Family:
    return Family(name, help, "gauge", tuple(Sample(*one) for one in samples))


def with_labels(families: Iterable[Family], **labels: str) -> tuple[Family, ...]:
    """The same families, each sample of which says also `labels`, before its own."""
    return tuple(
        family._replace(
            samples=tuple(one._replace(labels={**labels, **one.labels}) for one in family.samples)
        )
        for family in families
    )
