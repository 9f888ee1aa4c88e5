"""How often something that dies is started again: backoff, forgiveness, quarantine."""

from __future__ import annotations

from deploy.restarts import LONGEST_WAIT, RestartBudget


def test_backoff_doubles_with_jitter_up_to_its_bound() -> None:
    budget = RestartBudget()
    waits = [budget.ended(now, now + 1, crashed=False) for now in range(0, 100, 10)]
    assert 0.375 <= waits[0] <= 0.625
    assert 0.75 <= waits[1] <= 1.25
    assert 1.5 <= waits[2] <= 2.5
    assert max(waits) <= LONGEST_WAIT * 1.25 and min(waits[7:]) >= LONGEST_WAIT * 0.75


def test_a_minute_of_health_forgives_everything() -> None:
    budget = RestartBudget()
    for now in range(4):
        budget.ended(now, now + 0.5)
    assert budget.ended(10, 71) <= 0.625
    assert not budget.exhausted


def test_five_crashes_within_a_minute_exhaust_it_and_five_in_a_longer_time_do_not() -> None:
    fast, slow = RestartBudget(), RestartBudget()
    for number in range(5):
        assert not fast.exhausted
        fast.ended(number * 10, number * 10 + 1)
        slow.ended(number * 20, number * 20 + 1)
    assert fast.exhausted and not slow.exhausted


def test_what_is_not_its_fault_does_not_count() -> None:
    budget = RestartBudget()
    for _ in range(10):
        budget.ended(0, 1, crashed=False)
    assert not budget.exhausted


def test_kills_from_outside_quarantine_nothing_that_was_up_and_do_not_make_it_wait_longer() -> None:
    budget = RestartBudget()
    waits = [budget.killed(now, now + 2) for now in range(0, 40, 2)]
    assert not budget.exhausted and max(waits) <= 0.625


def test_kills_at_the_very_start_are_a_crash_loop() -> None:
    budget = RestartBudget()
    for now in range(5):
        budget.killed(now, now + 0.1)
    assert budget.exhausted
