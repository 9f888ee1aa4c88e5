"""What is asked of the swarm while the nemesis is at work: all four verbs, from several hands at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from bus.errors import BusError, Refused, TooLate
from swarm.client import Swarm
from swarm.errors import SwarmError
from swarm.ids import new_id
from swarm.pieces import Piece
from tests.faults.battery.cast import PLAIN
from tests.faults.battery.evidence import Recorder

ROOMS = 3
ASK_SECONDS = 4.0


class Workload:
    """`pace`: seconds between two messages of one lane. It goes on until `over` is set, and then ends what it
    has begun: a message whose fate is unknown is sent again, under the same id, until the swarm has answered."""

    def __init__(self, swarm: Swarm, recorder: Recorder, seed: int, pace: float) -> None:
        self._swarm = swarm
        self._recorder = recorder
        self._rng = random.Random(f"workload {seed}")
        self._pace = pace
        self.over = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as hands:
            for agent in PLAIN:
                for room in range(ROOMS):
                    hands.create_task(self._lane(agent, f"r{room}"))
            hands.create_task(self._asks())
            hands.create_task(self._announcements())
            hands.create_task(self._tasks())
            hands.create_task(self._accounts())

    async def _lane(self, agent: str, room: str) -> None:
        n = 0
        while not self.over.is_set():
            slow = 0.2 if self._rng.random() < 0.02 else 0.0
            data = {"n": n, "relay": self._rng.random() < 0.5, "slow": slow}
            if await self.tell(agent, "take: it", room, data):
                n += 1
            await self._pause(self._pace)

    async def _asks(self) -> None:
        while not self.over.is_set():
            await self.ask(self._rng.choice(PLAIN))
            await self._pause(0.3)

    async def _announcements(self) -> None:
        while not self.over.is_set():
            await self._pause(2.0)
            if self._rng.random() < 0.5:
                await self.tell("lead", "speak: up", "speaking", {})
                continue
            try:
                report = await self._swarm.announce("take: it")
            except (BusError, SwarmError):
                continue  # unknown: whatever has become of it must be whole, and nothing was promised
            self._recorder.note("announced", id=report["id"], recipients=report["recipients"])

    async def _tasks(self) -> None:
        while not self.over.is_set():
            child, slow = self._rng.choice(("kim", "kit")), self._rng.choice((0.0, 0.0, 0.5))
            if self._rng.random() < 0.5:
                await self.tell("lead", "give: it", "giving", {"child": child, "slow": slow})
            else:
                await self._certainly(
                    "delegate",
                    child,
                    lambda id, c=child, s=slow: self._swarm.delegate(c, "work: it", input={"slow": s}, id=id),
                )
            await self._pause(0.5)

    async def _accounts(self) -> None:
        """The account as the swarm itself gives it, whenever it can."""
        while not self.over.is_set():
            try:
                ledger = (await self._swarm.stats())["ledger"]
            except (BusError, SwarmError):
                pass
            else:
                counts = {
                    state: ledger.get(f"deliveries.{state}", 0)
                    for state in ("accepted", "dispatched", "handled", "dead", "expired")
                }
                self._recorder.note("stats", **counts)
            await self._pause(1.0)

    # ── one of each ───────────────────────────────────────────────────────────────────────────────
    async def tell(self, agent: str, text: str, room: str, data: dict[str, Any]) -> bool:
        """Whether it was accepted; False: it was refused."""
        return await self._certainly(
            "tell", agent, lambda id: self._swarm.tell(agent, text, data=data, room=room, id=id)
        )

    async def _certainly(self, verb: str, agent: str, call: Callable[[str], Awaitable[Any]]) -> bool:
        id = new_id()
        while True:
            self._recorder.note("send", verb=verb, id=id, to=agent)
            try:
                await call(id)
            except Refused as error:
                self._recorder.note("refused", verb=verb, id=id, to=agent, error=str(error))
                return False
            except (BusError, SwarmError) as error:
                self._recorder.note("unknown", verb=verb, id=id, to=agent, error=str(error))
                await asyncio.sleep(0.2)
            else:
                self._recorder.note("accepted", verb=verb, id=id, to=agent)
                return True

    async def ask(self, agent: str, timeout: float = ASK_SECONDS) -> bool:
        ask = new_id()

        def piece(piece: Piece) -> None:
            self._recorder.note("piece", ask=ask, run=piece.run_id, n=piece.seq, final=piece.final)

        self._recorder.note("ask", ask=ask, id=ask, to=agent, timeout=timeout)
        right = False
        try:
            reply = await self._swarm.ask(
                agent, "echo: it", data={"nonce": ask}, timeout=timeout, on_chunk=piece
            )
            how, right = "reply", reply["text"] == ask
        except TooLate:
            how = "deadline"
        except (BusError, SwarmError) as error:
            how = f"failure: {type(error).__name__}"
        self._recorder.note("ask.end", ask=ask, how=how, right=right)
        return right

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds * self._rng.uniform(0.5, 1.5)):
                await self.over.wait()
        except TimeoutError:
            pass
