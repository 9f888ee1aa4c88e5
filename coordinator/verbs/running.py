"""What runs: stop, start, restart and scale an agent; converge on what the ledger says should run."""

from __future__ import annotations

from typing import Any

from coordinator.directory import Directory
from coordinator.running import Running
from coordinator.scaling import Scaling
from coordinator.verbs.verb import Args, Verbs, Wait


class RunArgs(Args):
    agent: str
    timeout: Wait = 30.0


class ScaleArgs(RunArgs, kw_only=True):
    replicas: int


class ConvergeArgs(Args):
    wait: Wait = 0.0


class RunningVerbs:
    def __init__(self, directory: Directory, running: Running, scaling: Scaling) -> None:
        self._directory = directory
        self._running = running
        self._scaling = scaling

    def verbs(self) -> Verbs:
        return {
            "stop": (RunArgs, self.stop),
            "start": (RunArgs, self.start),
            "restart": (RunArgs, self.restart),
            "resume": (RunArgs, self.resume),
            "scale": (ScaleArgs, self.scale),
            "converge": (ConvergeArgs, self.converge),
        }

    async def stop(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.stop(self._name(args.agent), args.timeout)

    async def start(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.start(self._name(args.agent), args.timeout)

    async def restart(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.restart(self._name(args.agent), args.timeout)

    async def resume(self, args: RunArgs) -> dict[str, Any]:
        return await self._running.resume(self._name(args.agent), args.timeout)

    async def scale(self, args: ScaleArgs) -> dict[str, Any]:
        return await self._scaling.scale(self._name(args.agent), args.replicas, args.timeout)

    async def converge(self, args: ConvergeArgs) -> dict[str, Any]:
        return await self._running.converge(args.wait)

    def _name(self, address: str) -> str:
        return self._directory.named(address).name
