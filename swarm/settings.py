"""How a setting is found: an agent's layers, the nearest first.

    secrets → settings → settings.secrets → runtime settings → environment (only if given)

A layer answers when the key is in it and is not None ("not set" in JSON and YAML): `False`, `0` and `""`
are answers. elizaOS asks for truth instead, so that `false` in a near layer is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

LAYERS: Final = ("secrets", "settings", "settings.secrets", "runtime", "environment")


def texts_of(value: Any) -> tuple[str, ...]:
    """A setting that is a text or a list of texts; empty for anything else."""
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()


class SettingLayers:
    """The layers of one agent, in order. Its repr names keys, never values."""

    __slots__ = ("_layers",)

    def __init__(
        self,
        *,
        secrets: Mapping[str, Any] | None = None,
        settings: Mapping[str, Any] | None = None,
        runtime: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        nested = (settings or {}).get("secrets")
        given = (secrets, settings, nested if isinstance(nested, Mapping) else None, runtime, environ)
        self._layers = tuple((n, {} if one is None else one) for n, one in zip(LAYERS, given, strict=True))

    def get(self, key: str, default: Any = None) -> Any:
        """The value in the nearest layer that has one, else `default`."""
        for name, layer in self._layers:
            if layer and self._answers(name, layer, key):
                return layer[key]
        return default

    def where(self, key: str) -> str | None:
        """The name of the layer that answers, for people who wonder; None when the key is not set."""
        for name, layer in self._layers:
            if self._answers(name, layer, key):
                return name
        return None

    @staticmethod
    def _answers(name: str, layer: Mapping[str, Any], key: str) -> bool:
        if name == "settings" and key == "secrets":
            return False  # it holds a layer; as a value it would hand out all secrets at once
        return layer.get(key) is not None

    def __repr__(self) -> str:
        known = {name: sorted(layer) for name, layer in self._layers if layer and name != "environment"}
        return f"SettingLayers({known})"
