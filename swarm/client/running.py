"""What an operator says about what runs: start, stop, restart."""

from __future__ import annotations

from typing import Any

from swarm.client.calls import CHANGE_SECONDS, QUERY_SECONDS, Calls


class RunningCalls(Calls):
    """`Swarm` has them."""

    async def start(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """``{"agent", "ready", "instances"}``, when all replicas are ready or `timeout` seconds are over."""
        return await self._call("start", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def stop(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """``{"agent", "stopped", "instances"}``: it drains; its mail waits until it is started again."""
        return await self._call("stop", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def restart(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """As `start`, with a fresh process for each replica, one after the other; the old ones drain."""
        return await self._call("restart", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def resume(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """As `start`, for what is quarantined; an agent that somebody stopped stays stopped (Refused)."""
        return await self._call("resume", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def scale(self, agent: str, replicas: int, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """``{"agent", "replicas", "before", "done", "instances"}``, when so many are ready and the others are drained
        and gone, or `timeout` seconds are over. Raises Refused outside of the bounds of the agent's policy."""
        return await self._call(
            "scale", QUERY_SECONDS + timeout, agent=agent, replicas=replicas, timeout=timeout
        )

    async def converge(self) -> dict[str, Any]:
        """Make what runs agree with the registry, which was provisioned anew."""
        return await self._call("converge")
