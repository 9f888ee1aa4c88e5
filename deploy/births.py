"""How an instance is born on a node: its credentials, its database role, its settings, and the fork itself.

All that it is given is made here, of the keys for agents: what would let it be a coordinator or an operator is not at
hand on a machine that joined.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import msgspec

from bus.agent_keys import AgentKeys
from bus.bus import Bus
from deploy.agent_settings import AgentSettings
from deploy.checkout import Checkout
from deploy.logins import Logins
from deploy.node_settings import NodeSettings
from deploy.zygote import Exited, Zygote, ZygoteFailed
from swarm.agent.spec import AgentSpec
from swarm.project import Project
from swarm.protocol import Placement

CREDENTIAL_SECONDS: Final = None
"""How long an instance's bus credential is good; None: as long as the keys."""


class Births:
    def __init__(self, settings: NodeSettings, bus: Bus, keys: AgentKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._project = Project(Path(settings.file))
        self._agent_settings = AgentSettings(self._project.file)
        self._logins = Logins(settings.node, settings.swarm, bus, self._project)
        self._checkout = Checkout(self._project.folder) if settings.joined else None
        self._gone: dict[str, asyncio.Future[Exited]] = {}

    async def fork(
        self, zygote: Zygote, placement: Placement, instance: str, log_file: Path
    ) -> tuple[int, asyncio.Future[Exited]]:
        """Its pid, and what will say how it ended. Raises ZygoteFailed when it cannot be started now."""
        if self._checkout is not None and (why := await self._checkout.why_not(placement)):
            raise ZygoteFailed(why)
        if placement.heritage:
            await self._logins.ensure(placement)
        name = f"{placement.agent}/{instance}"
        gone: asyncio.Future[Exited] = asyncio.get_running_loop().create_future()
        self._gone[name] = gone
        try:
            pid = await zygote.fork(
                self._settings.entry,
                msgspec.msgpack.encode(self._spec(placement, instance)),
                name=name,
                log_file=log_file,
            )
        except BaseException:
            self._gone.pop(name, None)
            raise
        return pid, gone

    def ended(self, exited: Exited) -> None:
        gone = self._gone.pop(exited.name, None)
        if gone is not None and not gone.done():
            gone.set_result(exited)

    def _spec(self, placement: Placement, instance: str) -> AgentSpec:
        from swarm.stores.postgres import agent_url

        settings = self._settings
        who = self._keys.mint(placement.agent, CREDENTIAL_SECONDS)
        password = self._project.agent_password(settings.swarm, placement.agent)
        return AgentSpec(
            swarm=settings.swarm,
            agent=placement.agent,
            agent_id=placement.agent_id,
            instance=instance,
            source=placement.source,
            project=str(self._project.folder),
            bus_url=settings.bus_url,
            bus_jwt=who.jwt,
            bus_seed=who.seed,
            store_url=agent_url(settings.store_url, settings.swarm, placement.agent_id, password),
            node=settings.node,
            version=placement.version,
            log_level=settings.log_level,
            log_format=settings.log_format,
            rooms_at_once=settings.rooms_at_once,
            capacity=settings.capacity,
            drain_seconds=max(1.0, settings.drain_seconds - 2.0),
            settings=self._settings_of(placement),
            heritage=placement.heritage,
            secrets=placement.secrets,
        )

    def _settings_of(self, placement: Placement) -> dict[str, Any]:
        if not placement.heritage:
            return self._agent_settings.of(placement.agent)
        names = set(placement.secrets).intersection(*(one.secrets for one in placement.heritage[1:]))
        return self._agent_settings.handed_down(placement.heritage[0].agent, names)
