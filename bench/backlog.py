"""P7: an agent comes back to 10,000 waiting messages, beside the rate at which it handles what it is told live.

Each round: 8 tellers tell the agent as fast as they can while it runs (P2 with one recipient); then it leaves, 10,000
messages are accepted for it, and it comes back. Each is handled with an effect, and in the order of its sender.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from bench.report import Rounds, Row
from bench.servers import House, open_house
from bench.tell import AGENTS, SIZE, TAKER, TELLER, TELLERS, accepted, handled, tell
from swarm.ids import new_id
from swarm.records import Content, Outgoing

BACK: Final = "taker-0"
WAITING: Final = 10_000
BATCH: Final = 1
"""As P2 does it: each tell is a transaction of its own, and the tellers take turns."""
ROUNDS: Final = 3
SECONDS: Final = 3.0
BACK_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 0.5


async def measure(folder: Path) -> tuple[list[Row], list[str], dict[str, list[float]]]:
    rounds = Rounds()
    async with open_house(folder, dict.fromkeys(TELLERS, TELLER) | {BACK: TAKER}, stores=True) as house:
        await house.wake([*TELLERS, BACK])
        await handled(house, accepted(await tell(house, TELLERS, 0.5, 0.0, [BACK])))
        for _ in range(ROUNDS):
            rounds.add(live_handled_per_s=await _live(house))
            rounds.add(**await _back(house))
    after = rounds.median("first_after_s")
    notes = [
        f"{WAITING:,} messages of 1 KiB from {AGENTS} senders, each in order in a room of its own, from the first to "
        f"the last handled. The first was handled {after:.2f} s after all was accepted and the agent forked.",
        "All came in the order of their senders; the run fails otherwise.",
    ]
    row = rounds.row(
        "P7", f"{WAITING:,} waiting messages, handled/s / told live", "/s", "back_handled_per_s",
        "live_handled_per_s", bound="least", limit=0.8,
    )  # fmt: skip
    return [row], notes, rounds.figures


async def _live(house: House) -> float:
    sent = accepted(await tell(house, TELLERS, SECONDS, 0.0, [BACK]))
    done = await handled(house, sent)
    return len(done) / (max(done.values()) - min(done.values()))


async def _back(house: House) -> dict[str, float]:
    await house.leave(BACK)
    sent = dict(zip(TELLERS, await asyncio.gather(*(_post(house, name) for name in TELLERS)), strict=True))
    began = time.monotonic()
    await house.wake([BACK])
    ids = {id: 0.0 for each in sent.values() for id in each}
    give_up = began + BACK_SECONDS
    while (await house.swarm.inbox(BACK, limit=0))["waiting"]:
        if time.monotonic() > give_up:
            raise RuntimeError(f"{BACK} did not take its backlog in {BACK_SECONDS:.0f} s.")
        await asyncio.sleep(LOOK_SECONDS)
    done = await handled(house, {BACK: ids})
    for name, each in sent.items():
        times = [done[id] for id in each]
        if times != sorted(times):
            raise RuntimeError(f"What {name} told was not handled in order.")
    first, last = min(done.values()), max(done.values())
    return {"back_handled_per_s": len(done) / (last - first), "first_after_s": first - began}


async def _post(house: House, name: str) -> list[str]:
    """The ids of this teller's share, in order."""
    store = house.store(name)
    content = Content("take: " + "x" * (SIZE - 6))
    ids = [new_id() for _ in range(WAITING // AGENTS)]
    try:
        for start in range(0, len(ids), BATCH):
            await store.post(
                [Outgoing(id=id, to=BACK, room=name, content=content) for id in ids[start : start + BATCH]]
            )
    finally:
        await store.close()
    return ids
