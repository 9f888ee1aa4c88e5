"""An agent process, from its spec to its exit code. The node forks it; `run` is its whole life.

Started: bus, store, plugins, services, then the subscription, then hello. Stopped, at SIGTERM: no new
work, drain to a deadline, plugins, services, store, goodbye, bus. A second SIGTERM hurries the drain.

    0 drained · 69 a dependency is down · 70 forced · 75 restart me · 78 bad configuration
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from bus.buses.nats import connect
from bus.credentials import Credentials
from bus.errors import BusError
from swarm.agent.instance import BAD_CONFIGURATION, DEPENDENCY_DOWN, Instance, Stop
from swarm.agent.runtime import AgentRuntime
from swarm.agent.services import ServiceFailed
from swarm.agent.spec import AgentSpec
from swarm.character import load_character
from swarm.errors import CharacterError, ConfigError, PluginError, StoreDown, SwarmError
from swarm.plugin import Plugin
from swarm.redaction import Redaction
from swarm.store import Store
from swarm.telemetry import configure_logging, telemetry_settings

log = logging.getLogger(__name__)


def run(packed: bytes) -> int:
    """The entry point of a forked child: an `AgentSpec` in MessagePack in, an exit code out."""
    spec = msgspec.msgpack.decode(packed, type=AgentSpec)
    os.chdir(spec.project or ".")  # relative paths mean the same attached and detached
    redaction = configure_logging(spec.log_level, f"{spec.agent}/{spec.instance}", spec.log_format)
    redaction.hide((spec.bus_seed, spec.bus_jwt, spec.store_url))
    redaction.hide_settings(spec.settings)
    # SIGABRT from the node, when the loop is blocked: all stacks to the log, and the end. A core would hold secrets.
    faulthandler.enable(sys.stderr)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    try:
        import uvloop

        factory = uvloop.new_event_loop
    except ImportError:
        factory = None
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_live(spec, redaction))


async def _live(spec: AgentSpec, redaction: Redaction) -> int:
    stop = Stop()
    stop.listen()
    try:
        return await _serve(spec, stop, redaction)
    except Exception as error:
        errors = _leaves(error)
        for one in errors:
            expected = isinstance(one, (SwarmError, BusError))
            log.error("%s", one, exc_info=None if expected else one)  # noqa: TRY400
        return max(map(_exit_code, errors))


def _exit_code(error: BaseException) -> int:
    match error:
        case ServiceFailed() if error.is_away:
            return DEPENDENCY_DOWN
        case CharacterError() | PluginError() | ConfigError():
            return BAD_CONFIGURATION
        case StoreDown() | BusError():
            return DEPENDENCY_DOWN
    return 1


async def _serve(spec: AgentSpec, stop: Stop, redaction: Redaction) -> int:
    store = _store(spec)
    plugins: tuple[Plugin, ...] = ()
    if spec.heritage and store is not None:
        from swarm.agent.heritage import read_heritage

        character, plugins, folder = await read_heritage(spec, store)
    else:
        source, folder = _where(spec)
        character = await load_character(source)
    redaction.hide(character.secrets.values())
    redaction.hide_settings(character.settings)
    who = Credentials(name=spec.agent, jwt=spec.bus_jwt, seed=spec.bus_seed)
    bus = await connect(spec.bus_url.split(","), who)
    runtime = AgentRuntime(
        character,
        store,
        plugins,
        settings={**telemetry_settings(os.environ), **spec.settings},
        name=spec.agent,
        instance=spec.instance,
        folder=folder,
    )
    try:
        return await Instance(spec, runtime, bus).run(stop)
    finally:
        await runtime.stop()
        with suppress(BusError):
            await bus.drain(2.0)


def _where(spec: AgentSpec) -> tuple[str, Path | None]:
    """The character's source, and the agent's own folder if that is what it is."""
    if "://" in spec.source or spec.source.startswith(("env:", "agent:")):
        return spec.source, None
    path = Path(spec.project) / spec.source
    return str(path), path if path.is_dir() else None


def _store(spec: AgentSpec) -> Store | None:
    if not spec.store_url:
        return None
    from swarm.stores.opening import open_store

    return open_store(spec.store_url, swarm=spec.swarm, agent=spec.agent, agent_id=spec.agent_id)


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
