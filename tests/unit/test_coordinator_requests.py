"""Requests in hand at the coordinator: bounded, and shared."""

from __future__ import annotations

import asyncio

from coordinator.requests import MOST, SHARE, Requests


async def test_one_that_floods_takes_no_more_than_its_share() -> None:
    """While one agent kept flooding tells, an operator's tell was answered busy."""
    requests, release = Requests(), asyncio.Event()

    async def work() -> None:
        await release.wait()

    assert not requests.take("eve", work()), "nobody owns it yet"
    async with asyncio.TaskGroup() as group:
        requests.group = group
        assert sum(requests.take("eve", work()) for _ in range(2 * MOST)) == SHARE
        assert requests.take("operator", work())
        others = sum(requests.take(f"a{number}", work()) for number in range(MOST))
        assert SHARE + 1 + others == MOST, "and all together no more than all"
        release.set()
    async with asyncio.TaskGroup() as group:
        requests.group = group
        assert requests.take("eve", work()), "what has ended is no longer counted"
