"""The maths and the words of a benchmark's report. Nothing here measures anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.report import Result, Rounds, Row, cells, markdown, newest, number, percentile, save, text_table


def row(**fields: object) -> Row:
    given = {"goal": "P1", "what": "ask", "unit": "ms", "ours": 2.0} | fields
    return Row(**given)  # type: ignore[arg-type]


def result(name: str, goal: str, date: str, ours: float = 2.0) -> Result:
    return Result(name=name, goal=goal, date=date, seconds=1.0, machine={"cores": 2}, rows=(row(ours=ours),))


@pytest.mark.parametrize(
    ("fields", "met"),
    [
        ({"ratio": 2.0, "bound": "most", "limit": 2.0}, True),
        ({"ratio": 2.01, "bound": "most", "limit": 2.0}, False),
        ({"ratio": 0.5, "bound": "least", "limit": 0.5}, True),
        ({"ratio": 0.49, "bound": "least", "limit": 0.5}, False),
        ({"ours": 8.1, "ratio": 0.2, "judged": "ours", "limit": 8.0}, False),
        ({"ours": 0.0, "judged": "ours", "limit": 0.0}, True),
        ({"ratio": 9.0}, None),
        ({"ratio": None, "limit": 2.0}, None),
    ],
)
def test_a_row_knows_whether_its_goal_is_met(fields: dict[str, object], met: bool | None) -> None:
    assert row(**fields).met is met


def test_a_ratio_is_the_median_of_the_rounds_own_ratios_and_not_that_of_the_medians() -> None:
    """The machine became twice as slow after the first round: the medians of each side alone would say 1.5."""
    rounds = Rounds()
    for ours, raw in ((2.0, 1.0), (4.0, 2.0), (3.0, 2.0)):
        rounds.add(ours=ours, raw=raw)
    assert rounds.ratio("ours", "raw") == 2.0
    made = rounds.row("P1", "ask", "ms", "ours", "raw", limit=2.0)
    assert (made.ours, made.baseline, made.ratio, made.met) == (3.0, 2.0, 2.0, True)


def test_rounds_that_were_not_run_in_turn_or_are_too_few_make_no_ratio() -> None:
    rounds = Rounds()
    for _ in range(3):
        rounds.add(ours=1.0)
    for _ in range(2):
        rounds.add(raw=1.0, ours_too=1.0)
    with pytest.raises(ValueError, match="shorter"):
        rounds.ratio("ours", "raw")
    with pytest.raises(ValueError, match="run 3 at least"):
        rounds.ratio("ours_too", "raw")


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 6), (0.95, 10), (1.0, 10)])
def test_a_percentile_is_one_of_the_values(share: float, value: float) -> None:
    assert percentile([10, 1, 9, 2, 8, 3, 7, 4, 6, 5], share) == value


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no percentile"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0 ms"),
        (0.0123, "0.012 ms"),
        (0.5, "0.50 ms"),
        (12.34, "12.3 ms"),
        (12345.6, "12,346 ms"),
    ],
)
def test_a_number_shows_what_counts(value: float | None, text: str) -> None:
    assert number(value, "ms") == text


def test_a_table_says_what_is_asked_and_shouts_what_is_missed() -> None:
    missed = row(baseline=0.5, ratio=4.0, limit=2.0)
    assert cells(missed) == ("P1", "ask", "0.50 ms", "2.00 ms", "4.00×", "≤ 2×", "NO")
    kept = row(ours=8.0, unit="MB", judged="ours", limit=8.0)
    assert cells(kept)[2:] == ("–", "8.00 MB", "–", "≤ 8 MB", "yes")
    lines = text_table([missed, kept]).splitlines()
    assert lines[0].index("met?") == lines[1].index("NO") == lines[2].index("yes")


def test_the_page_shows_the_newest_of_each_name_in_the_order_of_goals(tmp_path: Path) -> None:
    save(result("tell", "P2", "2026-01-02T10:00:00+00:00"), tmp_path)
    save(result("ask", "P1", "2026-01-01T10:00:00+00:00", ours=7.0), tmp_path)
    path = save(result("ask", "P1", "2026-01-03T10:00:00+00:00", ours=5.0), tmp_path)
    assert path.name == "2026-01-03-ask.json"
    assert [(each.name, each.rows[0].ours) for each in newest(tmp_path)] == [("ask", 5.0), ("tell", 2.0)]
    page = (tmp_path / "latest.md").read_text("utf-8")
    assert page == markdown(newest(tmp_path))
    assert page.index("P1: ask") < page.index("P2: tell") and "5.00 ms" in page and "7.00 ms" not in page
