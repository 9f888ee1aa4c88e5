"""The edge profile: one agent on a small machine that is often offline (H7 to H10).

runtime = edge_runtime(await load_character("agents/ranger"), settings={"SYNC_URL": "postgresql://…"})
await runtime.initialize()

It is the same agent with other defaults: a file for a store, little memory, the plugins it cannot do
without, answers while the network is away, and an outbox that syncs when it is back. What the caller
gives (a store, a setting) stands over what the profile would take.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec

from swarm.agent.breaker import Sleep
from swarm.agent.offline import OFFLINE_SECONDS, Offline
from swarm.agent.runtime import AgentRuntime
from swarm.agent.syncing import SYNC_SECONDS, Sync, upstream_of
from swarm.character import Character
from swarm.components import Service
from swarm.errors import ConfigError
from swarm.plugin import Plugin
from swarm.store import Store
from swarm.stores.opening import file_of
from swarm.stores.sqlite.database import SqliteDatabase
from swarm.stores.sqlite.edge import EdgeBounds, EdgeStore

SYNC: Final = "sync"
"""The type of the service that syncs."""
_KINDS: Final = {"int": "a whole number", "float": "a number of seconds", "str": "a text"}


class EdgeProfile(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are of memories, messages in a prompt, cached answers and outbox entries; `sync_seconds` lie between
    two syncs. `sync_url` holds a password, so the repr shows none of it."""

    store: str = "sqlite:./agent.db"
    max_memory_size: int = 100
    conversation_length: int = 10
    cache_size: int = 50
    outbox_size: int = 1_000
    sync_seconds: float = SYNC_SECONDS
    sync_url: str = ""

    SETTINGS: ClassVar[Mapping[str, str]] = {
        "EDGE_STORE": "store",
        "maxMemorySize": "max_memory_size",
        "conversationLength": "conversation_length",
        "cacheSize": "cache_size",
        "outboxSize": "outbox_size",
        "syncSeconds": "sync_seconds",
        "SYNC_URL": "sync_url",
    }
    """Setting → field. In an environment they are called as there is custom, `MAX_MEMORY_SIZE`, and texts of
    digits are taken for numbers."""

    def __repr__(self) -> str:
        return f"EdgeProfile({self.store!r}, sync={'yes' if self.sync_url else 'no'})"

    @staticmethod
    def read(setting: Callable[[str], Any]) -> EdgeProfile:
        """The defaults, with what is set over them. Raises ConfigError for what cannot be."""
        given = {}
        for key, field in EdgeProfile.SETTINGS.items():
            value = setting(key)
            value = setting(field.upper()) if value is None else value
            if value is not None:
                given[field] = value
        try:
            profile = msgspec.convert(given, EdgeProfile, strict=False)
        except msgspec.ValidationError as error:
            field = str(error).rpartition("`$.")[2].rstrip("`")
            key = next((key for key, one in EdgeProfile.SETTINGS.items() if one == field), field)
            kind = _KINDS.get(EdgeProfile.__annotations__.get(field, ""), "something else")
            raise ConfigError(f"The setting {key} (or {field.upper()}) takes {kind}; correct it.") from None
        for key, field in EdgeProfile.SETTINGS.items():
            value = getattr(profile, field)
            least = 0 if field == "cache_size" else 1
            if isinstance(value, int | float) and not least <= value <= 1_000_000:
                raise ConfigError(f"The setting {key} is {value:g}; it takes {least} to 1,000,000.")
        return profile

    @property
    def bounds(self) -> EdgeBounds:
        return EdgeBounds(self.max_memory_size, self.outbox_size if self.sync_url else 0, self.cache_size)


def edge_runtime(
    character: Character | Mapping[str, Any],
    adapter: Store | None = None,
    plugins: Sequence[Plugin] = (),
    settings: Mapping[str, Any] | None = None,
    *,
    name: str | None = None,
    instance: str = "",
    folder: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Sleep = asyncio.sleep,
) -> AgentRuntime:
    """An `AgentRuntime` of the edge, as its constructor makes one. Settings are read from the character first.
    A given `adapter` is left as it is: the caller's, with the caller's bounds, and no outbox.
    Raises ConfigError for a setting that cannot be, or a SYNC_URL beside an adapter that has no outbox."""
    known = character if isinstance(character, Character) else Character(**character)
    given = {"essentialPlugins": True, **(settings or {})}
    profile = EdgeProfile.read(known.setting_layers(runtime=given).get)
    name = name or known.username
    store = adapter if adapter is not None else edge_store(profile, name, known.id)
    if profile.sync_url and not isinstance(store, EdgeStore):
        raise ConfigError(
            "SYNC_URL is set, but the store given is not the edge's own, which has the outbox; leave the store out, "
            "or SYNC_URL."
        )
    runtime = AgentRuntime(
        known,
        store,
        plugins,
        {key: value for key, value in given.items() if key != "SYNC_URL"},  # plugins need no other login
        name=name,
        instance=instance,
        folder=folder,
        conversation_length=profile.conversation_length,
        clock=clock,
        sleep=sleep,
    )
    runtime.loading.add(edge_plugin(runtime, profile, clock=clock, sleep=sleep))
    return runtime


def edge_store(profile: EdgeProfile, agent: str, agent_id: str) -> EdgeStore:
    """Raises ConfigError for a store's URL that names no file."""
    scheme, _, rest = profile.store.partition(":")
    if scheme.lower() != "sqlite":
        raise ConfigError(
            f"The edge keeps its store in a file, so EDGE_STORE begins with sqlite:, not {scheme!r}; "
            "write sqlite:./agent.db."
        )
    return EdgeStore(SqliteDatabase(file_of(rest)), agent, agent_id, profile.bounds)


def edge_plugin(
    runtime: AgentRuntime, profile: EdgeProfile, *, clock: Callable[[], float], sleep: Sleep
) -> Plugin:
    """What the profile adds to the agent: models that answer offline and, with a SYNC_URL, the sync."""
    store = runtime.adapter if isinstance(runtime.adapter, EdgeStore) else None
    offline = Offline(runtime.models, store, seconds=OFFLINE_SECONDS, clock=clock)

    async def start() -> None:
        offline.guard()

    plugin = Plugin("edge", "The edge profile.", models=offline.handlers(), start=start)
    if profile.sync_url and store is not None:
        connect = upstream_of(profile.sync_url, runtime.name)
        sync = Sync(
            store,
            connect,
            every=profile.sync_seconds,
            sleep=sleep,
            failed=lambda why: runtime.metrics.count_failure(SYNC, why),
        )

        @plugin.service
        class Syncing(Service):
            """The timer is its `run`: cancelled before the store closes, with a sync that is under way; what that had
            sent is there, what it had not waits for the next start."""

            service_type = SYNC
            required = False

            async def run(self) -> None:
                await sync.run()

            @property
            def sync(self) -> Sync:
                return sync

    return plugin
