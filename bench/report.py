"""What a benchmark found: rows that know their goal, as a table for people and as JSON for later.

A ratio comes from rounds that were run in turn, ours beside the baseline: it is the median of the rounds' own
ratios, because two medians of a machine whose load drifts belong to different moments. What stands beside it
are the medians of both sides.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import msgspec

LATEST: Final = "latest.md"
HEADINGS: Final = ("goal", "what", "baseline", "ours", "ratio", "asked", "met?")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One figure. `limit` bounds the ratio, or ours alone where `judged` says so; None only informs.

    `ours` and `baseline` are medians in `unit`; `baseline` None: there is nothing to stand beside it.
    """

    goal: str
    what: str
    unit: str
    ours: float
    baseline: float | None = None
    ratio: float | None = None
    judged: Literal["ratio", "ours"] = "ratio"
    bound: Literal["most", "least"] = "most"
    limit: float | None = None

    @property
    def met(self) -> bool | None:
        """None when nothing is asked of it."""
        value = self.ratio if self.judged == "ratio" else self.ours
        if self.limit is None or value is None:
            return None
        return value <= self.limit if self.bound == "most" else value >= self.limit


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run of one benchmark. `rounds` are the figures as measured, `notes` say what they mean."""

    name: str
    goal: str
    date: str
    """ISO, in UTC."""
    seconds: float
    machine: dict[str, Any]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    rounds: dict[str, list[float]] = {}


@dataclass(slots=True)
class Rounds:
    """Figures of interleaved rounds, by name, in the order in which they were measured."""

    figures: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        for name, figure in figures.items():
            self.figures.setdefault(name, []).append(figure)

    def median(self, name: str) -> float:
        return median(self.figures[name])

    def ratio(self, ours: str, baseline: str) -> float:
        """The median of ours / baseline, round by round. Raises ValueError when they were not run in turn."""
        pairs = list(zip(self.figures[ours], self.figures[baseline], strict=True))
        if len(pairs) < 3:
            raise ValueError(f"{len(pairs)} rounds make no median; run 3 at least.")
        return median(one / other for one, other in pairs)

    def row(self, goal: str, what: str, unit: str, ours: str, baseline: str, **asked: Any) -> Row:
        return Row(
            goal=goal,
            what=what,
            unit=unit,
            ours=self.median(ours),
            baseline=self.median(baseline),
            ratio=self.ratio(ours, baseline),
            **asked,
        )


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which this share (0..1) of the values lies, by nearest rank."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("No values have no percentile.")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


# ── for people ────────────────────────────────────────────────────────────────────────────────────
def number(value: float | None, unit: str = "") -> str:
    """Three figures that count, thousands with a comma."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        text = f"{value:,.0f}"
    elif abs(value) >= 10:
        text = f"{value:.1f}"
    else:
        text = f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"
    return f"{text} {unit}".rstrip()


def cells(row: Row) -> tuple[str, ...]:
    asked = ""
    if row.limit is not None:
        sign = "≤" if row.bound == "most" else "≥"
        asked = (
            f"{sign} {row.limit:g}×" if row.judged == "ratio" else f"{sign} {row.limit:g} {row.unit}".rstrip()
        )
    met = {True: "yes", False: "NO", None: ""}[row.met]
    ratio = "–" if row.ratio is None else f"{number(row.ratio)}×"
    return (row.goal, row.what, number(row.baseline, row.unit), number(row.ours, row.unit), ratio, asked, met)


def text_table(rows: Sequence[Row]) -> str:
    """Columns aligned, for a terminal."""
    lines = [HEADINGS, *map(cells, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(results: Sequence[Result]) -> str:
    """All results as one page."""
    parts = [
        "# The latest figures",
        "Made by `make bench`; the JSON files beside this one hold every round. Where a ratio is given, both sides ran "
        "in turn in one run, and it is the median of the rounds' own ratios. *Asked* bounds the ratio (×), or ours.",
    ]
    for result in results:
        lines = [" | ".join(HEADINGS), "|".join("---" for _ in HEADINGS)]
        lines += [" | ".join(cells(row)) for row in result.rows]
        parts.append(f"## {result.goal}: {result.name}")
        parts.append("\n".join(f"| {line} |" for line in lines))
        parts.append("\n".join(f"- {note}" for note in (*result.notes, _when(result))))
    return "\n\n".join(parts) + "\n"


def _when(result: Result) -> str:
    about = ", ".join(f"{name} {value}" for name, value in result.machine.items())
    return f"{result.date}, {result.seconds:.0f} s, on: {about}."


# ── for later ─────────────────────────────────────────────────────────────────────────────────────
def describe_machine() -> dict[str, Any]:
    """What a figure depends on, and nothing that says whose machine it is."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(memory),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def save(result: Result, folder: Path) -> Path:
    """Write `<date>-<name>.json`, and the page of the newest of each name."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result.date[:10]}-{result.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    (folder / LATEST).write_text(markdown(newest(folder)), encoding="utf-8")
    return path


def newest(folder: Path) -> list[Result]:
    """The newest result of each name, in the order of their goals."""
    found: dict[str, Result] = {}
    for path in sorted(folder.glob("*.json")):
        if re.match(r"\d{4}-\d\d-\d\d-", path.name):
            result = msgspec.json.decode(path.read_bytes(), type=Result)
            if result.name not in found or result.date >= found[result.name].date:
                found[result.name] = result
    return sorted(found.values(), key=lambda result: result.goal)
