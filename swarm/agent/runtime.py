"""One agent's runtime: its character, its store, what its plugins registered, and its phase.

It knows nothing of processes. `process.py` gives it a bus and a mailbox; alone, it still handles
messages: `await runtime.process_message(message)`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from swarm.agent import health
from swarm.agent.breaker import Sleep
from swarm.agent.embedding import Embeddings
from swarm.agent.events import Events
from swarm.agent.findings import Findings
from swarm.agent.hand import MessageResult, Say, current_turn, say_nothing
from swarm.agent.lifecycle import Lifecycle, Phase
from swarm.agent.loading import Loading
from swarm.agent.metrics import Metrics
from swarm.agent.models.registry import ModelRegistry
from swarm.agent.models.setup import Close, register_models
from swarm.agent.models.tokens import estimate_tokens
from swarm.agent.peers import Peers
from swarm.agent.recovery import Recovery, policy_from
from swarm.agent.registering import HOOK_STOP_SECONDS
from swarm.agent.registry import Registry
from swarm.agent.services import Services
from swarm.agent.spending import Spending
from swarm.agent.storable import storable_content
from swarm.agent.turn import take_turn
from swarm.agent.warming import warm
from swarm.character import Character
from swarm.components import Action, Evaluator, Handler, Message, Provider, Service
from swarm.errors import PluginError
from swarm.ids import new_id
from swarm.plugin import Plugin
from swarm.records import Found, Memory
from swarm.redaction import Redaction
from swarm.store import Store
from swarm.tracing.tracer import UNTRACED, Tracer

CONVERSATION_LENGTH: Final = 32
BACKGROUND_BOUND: Final = 256


class AgentRuntime:
    """Constructing does no I/O. `adapter` is a store under this agent's identity; without one a private
    store in memory serves. `folder` is the agent's own folder, whose plugin.py belongs to it. `clock`
    (seconds that only grow) and `sleep` are for waits between tries: a test brings its own."""

    def __init__(
        self,
        character: Character | Mapping[str, Any],
        adapter: Store | None = None,
        plugins: Sequence[Plugin] = (),
        settings: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        instance: str = "",
        folder: Path | None = None,
        conversation_length: int = CONVERSATION_LENGTH,
        clock: Callable[[], float] = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.character = character if isinstance(character, Character) else Character(**character)
        self.agent_id = self.character.id
        self.name = name or self.character.username
        self.instance = instance
        self.log = logging.getLogger(f"swarm.agent.{self.name}")
        self.adapter = adapter if adapter is not None else _private_store(self.name, self.agent_id)
        self.conversation_length = conversation_length
        self.metrics = Metrics(clock=clock)
        self.events = Events(self.metrics.count_failure)
        self.registry = Registry()
        self.redaction = Redaction()
        """For what failures say, before it is stored or sent: an exception may quote what it was given."""
        self.redaction.hide(self.character.secrets.values())
        self.redaction.hide_settings(self.character.settings)
        self.redaction.hide_settings(settings or {})
        self._layers = self.character.setting_layers(runtime=dict(settings or {}))
        self.spending = Spending(self.get_setting)
        self.models = ModelRegistry(self.spending.observe)
        self.estimate_tokens: Callable[[str], int] = estimate_tokens
        self.tracer: Tracer = UNTRACED
        self.peers = Peers(self)
        self.embeddings = Embeddings(self)
        self.findings = Findings(self)
        self._services = Services(self, clock=clock, sleep=sleep)
        self.recovery = Recovery(policy_from(self.get_setting("recovery")), clock=clock, sleep=sleep)
        self.loading = Loading(self, self._services, plugins, folder)
        self._closers: list[Close] = []
        self._background: set[asyncio.Task[None]] = set()
        self._initializing = asyncio.Lock()
        self._changes: list[tuple[Phase, Phase, int]] = []
        self.lifecycle = Lifecycle(lambda old, new, at: self._changes.append((old, new, at)))

    # ── what is registered (B1): read-only views ──────────────────────────────────────────────────
    @property
    def actions(self) -> Mapping[str, Action]:
        return self.registry.actions

    @property
    def offered_actions(self) -> Mapping[str, Action]:
        """The actions, and stand-ins for those whose plugin is loaded on first use."""
        return self.loading.offered

    @property
    def broken_plugins(self) -> Mapping[str, str]:
        """Plugin → why the agent works without it."""
        return self.loading.broken

    @property
    def providers(self) -> tuple[Provider, ...]:
        return self.registry.providers

    @property
    def evaluators(self) -> tuple[Evaluator, ...]:
        return self.registry.evaluators

    @property
    def plugins(self) -> tuple[Plugin, ...]:
        return self.registry.plugins

    @property
    def services(self) -> Mapping[str, list[Service]]:
        return self._services.by_type

    @property
    def is_initialized(self) -> bool:
        return self.lifecycle.phase is Phase.ACTIVE

    @property
    def store(self) -> Store:
        """The adapter by its plainer name."""
        return self.adapter

    def get_service(self, service_type: str) -> Service | None:
        return self._services.get(service_type)

    def get_services(self, service_type: str) -> list[Service]:
        return list(self._services.by_type.get(service_type, ()))

    async def restart_service(self, service_type: str) -> Service:
        return await self._services.restart(service_type)

    # ── registering (B5 to B9, P4) ────────────────────────────────────────────────────────────────
    def register_action(self, action: Action) -> None:
        """Raises PluginError when the name is taken; nothing has changed then."""
        self.registry.add_action(action)

    def register_provider(self, provider: Provider) -> None:
        self.registry.add_provider(provider)

    def register_evaluator(self, evaluator: Evaluator) -> None:
        self.registry.add_evaluator(evaluator)

    def register_model(self, type: str, handler: Handler, provider: str, priority: int = 0) -> None:
        """The highest priority serves; among equals the first that was registered (B8)."""
        self.models.register(type, handler, provider, priority)

    def trace_with(self, tracer: Tracer) -> None:
        """From now on turns, actions and models are spans of this tracer."""
        self.tracer = self.models.tracer = tracer

    async def use_model(self, type: str, params: Any, provider: str | None = None) -> Any:
        """The reply of the model that serves this type. Raises ModelError, naming what there is."""
        return await self.models.use(type, params, provider)

    async def register_service(self, kind: type[Service]) -> Service:
        """The service of this class's type: a new one, started if the agent is active, or the one that is
        there already."""
        existing = self.get_service(kind.service_type)
        service = self._services.register(kind)
        if existing is None and self.is_initialized:
            await self._services.start_late([kind.service_type])
        return service

    async def register_plugin(self, plugin: Plugin) -> None:
        """All of a plugin or, raising PluginError, nothing of it. See `Loading.register`."""
        await self.loading.register(plugin)

    async def load_plugin(self, name: str) -> Plugin:
        """The plugin of this name, loaded once, its dependencies first (G2)."""
        return await self.loading.load(name)

    async def get_action(self, name: str) -> Action | None:
        """The action of this exact name, its plugin loaded on first use (G3); None when nobody offers it."""
        return await self.loading.get_action(name)

    def get_setting(self, key: str, default: Any = None) -> Any:
        """secrets → settings → settings.secrets → runtime settings (A14)."""
        return self._layers.get(key, default)

    # ── how it is (G10) ───────────────────────────────────────────────────────────────────────────
    def liveness(self) -> health.Verdict:
        """Whether this runtime lives, or should be replaced."""
        return health.liveness(self)

    async def readiness(self) -> health.Verdict:
        """Whether it can do its work now: phase, store, bus, required services, breaker."""
        return await health.readiness(self)

    async def health(self) -> dict[str, Any]:
        """``{status, uptime, metrics, services, version}``; healthy means ready."""
        return await health.report(self)

    # ── life ──────────────────────────────────────────────────────────────────────────────────────
    async def initialize(self) -> None:
        """In B3's order: store, plugins, services, providers, status ACTIVE. Idempotent; a second caller
        awaits the first. A failure undoes what was begun, in reverse, and raises as it was."""
        async with self._initializing:
            if self.lifecycle.phase is Phase.ACTIVE:
                self.log.warning("initialize() was called again; the agent is active already")
                return
            await self._to(Phase.INITIALIZING)
            try:
                await self.adapter.init()
                await self._load_plugins()
                await self.loading.start_services()
                await self.loading.begin()
                if self.loading.mode == "eager":
                    await warm(self)
                await self.adapter.set_status("active")
            except BaseException:
                await self._undo()
                await self._to(Phase.FAILED)
                raise
            await self._to(Phase.ACTIVE)
            self.embeddings.wake()

    async def stop(self) -> None:
        """Plugins in reverse, then services in reverse, then the store; each bounded, none stops the rest.
        New work must have been stopped before: that is the mailbox's."""
        if self.lifecycle.phase in (Phase.STOPPED, Phase.FAILED, Phase.STOPPING):
            return
        if self.lifecycle.phase is Phase.CREATED:
            await self._to(Phase.STOPPED)
            return
        await self._to(Phase.STOPPING)
        await self._undo(mark_inactive=True)
        await self._to(Phase.STOPPED)

    async def _undo(self, *, mark_inactive: bool = False) -> None:
        await self._finish_background()
        await self.loading.end()
        await self._services.stop_all()
        for close in self._closers:
            with suppress(Exception):
                await close()
        try:
            async with asyncio.timeout(HOOK_STOP_SECONDS):
                if mark_inactive:
                    await self.adapter.set_status("inactive")
                await self.adapter.close()
        except Exception as error:
            self.log.warning("the store did not close well: %s", error)

    async def _load_plugins(self) -> None:
        self._closers = register_models(
            self.models,
            self.character,
            self.get_setting,
            lambda: [action.name.lower().replace("_", " ") for action in self.actions.values()],
        )
        await self.loading.load_all()

    async def _to(self, phase: Phase) -> None:
        self.lifecycle.to(phase)
        for old, new, at in self._changes:
            await self.events.emit("lifecycle:changed", old=old, new=new, at=at)
        self._changes.clear()

    # ── work ──────────────────────────────────────────────────────────────────────────────────────
    async def process_message(
        self, message: Message, *, delivery: int | None = None, say: Say = say_nothing
    ) -> MessageResult:
        """Handle one message (B12). Messages of one room are the caller's to keep in order: the mailbox does."""
        if not self.is_initialized:
            raise PluginError(
                f"Agent {self.name} is {self.lifecycle.phase}; call initialize() before it gets messages."
            )
        return await take_turn(self, message, delivery=delivery, say=say)

    async def remember(
        self,
        text: str = "",
        *,
        kind: str = "fact",
        data: Mapping[str, Any] | None = None,
        room: str | None = None,
    ) -> None:
        """Remember something. In a turn it is written when the turn commits, and not at all if it does not."""
        turn = current_turn()
        content = storable_content("The memory", text, data)
        mine = turn if turn is not None and turn.runtime is self else None
        where = room or (mine.message.room if mine else self.name)
        memory = Memory(
            id=mine.mint("memory") if mine else new_id(),
            room=where,
            entity=self.name,
            kind=kind,
            content=content,
            created_at=int(time.time() * 1000),
        )
        if mine is not None:
            mine.memories.append(memory)
        else:
            await self.adapter.create_memory(memory)
            self.embeddings.wake((memory,))

    async def search_memories(
        self,
        text: str,
        *,
        room: str | None = None,
        kind: str | None = None,
        limit: int = 10,
        min_score: float = 0.0,
    ) -> list[Found]:
        """What was remembered that answers best to `text`, by its words and (with an EMBEDDING model) its
        meaning; the best first."""
        return await self.embeddings.search(text, room=room, kind=kind, limit=limit, min_score=min_score)

    def in_background(self, work: Coroutine[Any, Any, None], what: str) -> bool:
        """Run `work` off everybody's path; the runtime owns it and ends it at its stop. Bounded: beyond
        the bound the work is dropped, counted and logged, and the answer is False."""
        if len(self._background) >= BACKGROUND_BOUND:
            work.close()
            self.metrics.count_failure("background", what)
            self.log.warning("too much waits in the background; %s of one message were dropped", what)
            return False
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return True

    async def _finish_background(self, seconds: float = 5.0) -> None:
        """What runs now and what it begins: evaluators end with findings to be written."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._background:
                    await asyncio.wait(self._background)
        late = tuple(self._background)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)


def _private_store(name: str, agent_id: str) -> Store:
    from swarm.stores.memory import private_store

    return private_store(name, agent_id)
