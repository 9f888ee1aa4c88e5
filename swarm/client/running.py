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
        """As `start`, with a fresh process for each replica; the old ones drain."""
        return await self._call("restart", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def resume(self, agent: str, *, timeout: float = CHANGE_SECONDS) -> dict[str, Any]:
        """As `start`, for what is quarantined; an agent that somebody stopped stays stopped (Refused)."""
        return await self._call("resume", QUERY_SECONDS + timeout, agent=agent, timeout=timeout)

    async def converge(self) -> dict[str, Any]:
        """Make what runs agree with the registry, which was provisioned anew."""
        return await self._call("converge")
