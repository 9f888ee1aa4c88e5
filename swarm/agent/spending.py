"""What models cost an agent: tokens by turn, by task, and by model over its life (X5).

The registry tells of each call in the caller's own context, so concurrent turns never mix. The price of a
model is the character's setting ``prices``: ``{"MODEL": {"input": 0.15, "output": 0.6}}``, for a million
tokens, in whatever currency; a model without a price costs nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from swarm.agent.models.registry import ModelCall

MOST_TASKS: Final = 100
"""Tasks whose cost is still known; the oldest is forgotten first."""
MILLION: Final = 1_000_000
MOST_MODELS: Final = 100
"""Models counted apart; an endpoint that names a new one in each answer must not fill the memory."""


@dataclass(slots=True)
class Spent:
    """`calls` counts failed ones too. `estimated`: some provider did not count its tokens itself."""

    calls: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cost: float = 0.0
    estimated: bool = False

    def add(self, call: ModelCall, cost: float) -> None:
        self.calls += 1
        self.failed += bool(call.error)
        self.input_tokens += call.usage.input_tokens
        self.output_tokens += call.usage.output_tokens
        self.seconds += call.seconds
        self.cost += cost
        self.estimated = self.estimated or call.usage.estimated

    def report(self) -> dict[str, Any]:
        """As it stands in the metadata of a response and of a task's result."""
        said: dict[str, Any] = {
            "calls": self.calls,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
        }
        if self.failed:
            said["failed"] = self.failed
        if self.cost:
            said["cost"] = round(self.cost, 9)
        if self.estimated:
            said["estimated"] = True
        return said


class _Account(NamedTuple):
    spent: Spent
    task: str | None


_account: ContextVar[_Account | None] = ContextVar("swarm_account", default=None)


@contextmanager
def on_account(spent: Spent, task: str | None = None) -> Iterator[None]:
    """Model calls inside, and in tasks begun inside, are added to `spent`, and to the task with this id."""
    token = _account.set(_Account(spent, task))
    try:
        yield
    finally:
        _account.reset(token)


class Spending:
    """An agent's totals. `observe` is the observer of its model registry."""

    def __init__(self, setting: Callable[[str, Any], Any]) -> None:
        self.total = Spent()
        self.by_model: dict[str, Spent] = {}
        self.by_task: dict[str, Spent] = {}
        """Over all attempts of a task here, however they ended; the latest MOST_TASKS tasks."""
        self._setting = setting
        self._prices: Mapping[str, Any] | None = None

    def observe(self, call: ModelCall) -> None:
        cost = self.price(call)
        name = call.model or call.provider
        if name not in self.by_model and len(self.by_model) >= MOST_MODELS:
            name = "others"
        accounts = [self.total, self.by_model.setdefault(name, Spent())]
        if (mine := _account.get()) is not None:
            accounts.append(mine.spent)
            if mine.task is not None:
                accounts.append(self._of_task(mine.task))
        for account in accounts:
            account.add(call, cost)

    def _of_task(self, task: str) -> Spent:
        """Its account, which becomes the youngest."""
        spent = self.by_task.pop(task, None) or Spent()
        self.by_task[task] = spent
        if len(self.by_task) > MOST_TASKS:
            del self.by_task[next(iter(self.by_task))]
        return spent

    def price(self, call: ModelCall) -> float:
        """What the call cost, by the model's price or its provider's."""
        if self._prices is None:
            given = self._setting("prices", {})
            self._prices = given if isinstance(given, Mapping) else {}
        price = self._prices.get(call.model) or self._prices.get(call.provider)
        if not isinstance(price, Mapping):
            return 0.0
        spent = call.usage.input_tokens * _number(price.get("input"))
        made = call.usage.output_tokens * _number(price.get("output"))
        return (spent + made) / MILLION

    def report(self) -> dict[str, Any]:
        """``{calls, input_tokens, …, "models": {name: the same}, "tasks": {id: the same}}``, for metrics."""
        return {
            **self.total.report(),
            "models": {name: one.report() for name, one in self.by_model.items()},
            "tasks": {task: one.report() for task, one in self.by_task.items()},
        }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
