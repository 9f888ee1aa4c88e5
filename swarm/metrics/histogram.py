"""Durations in buckets: fixed bounds, so that the counts of many processes can be added (D7)."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

from swarm.metrics.family import Buckets, Family, Sample

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0)
"""The usual bounds of durations, of OpenTelemetry and Prometheus alike, and two more: a model takes its time."""

MOST_SERIES: Final = 200
OTHERS: Final = "(others)"


class Histogram:
    """Durations in seconds by the values of `labels`. What would be one series too many is counted under
    ``(others)``: names come from plugins, and nobody promises that they are few."""

    __slots__ = ("_bounds", "_labels", "_series")

    def __init__(self, *labels: str, bounds: tuple[float, ...] = SECONDS) -> None:
        self._labels = labels
        self._bounds = bounds
        self._series: dict[tuple[str, ...], _Series] = {}

    def observe(self, seconds: float, *values: str) -> None:
        """Count one duration. `values` are those of the labels, in their order."""
        series = self._series.get(values)
        if series is None:
            if len(self._series) >= MOST_SERIES:
                values = (OTHERS,) * len(self._labels)
            series = self._series.setdefault(values, _Series(len(self._bounds) + 1))
        series.counts[bisect_left(self._bounds, seconds)] += 1
        series.sum += seconds

    def family(self, name: str, help: str) -> Family:
        """What was counted so far; the numbers are copies."""
        return Family(
            name,
            help,
            "histogram",
            tuple(
                Sample(
                    dict(zip(self._labels, values, strict=True)),
                    Buckets(self._bounds, tuple(series.counts), series.sum),
                )
                for values, series in sorted(self._series.items())
            ),
        )


class _Series:
    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0
