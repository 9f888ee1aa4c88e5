"""An action's parameters, from what the message brings: typed and checked, or a sentence that says what is wrong."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import msgspec

from swarm.agent.storable import describe
from swarm.components import Action, Message


class Parameters(NamedTuple):
    value: Any = None
    error: str | None = None


def parameters_for(action: Action, message: Message) -> Parameters:
    """The action's declared parameters, filled from what the message brings (`Message.given`)."""
    given = message.given
    kind = action.parameters
    if kind is None:
        return Parameters(given)
    try:
        if inspect.isclass(kind) and hasattr(kind, "model_validate"):
            return Parameters(kind.model_validate(given))
        return Parameters(msgspec.convert(given, type=kind))
    except (ValueError, TypeError) as error:  # msgspec's and pydantic's validation errors are ValueErrors
        detail = describe(error).partition(": ")[2].replace("\n", " ")
    except Exception as error:  # a model's own validator may raise anything
        detail = describe(error).replace("\n", " ")
    return Parameters(error=f"The parameters of action {action.name} are not right: {detail.rstrip('.')}.")
