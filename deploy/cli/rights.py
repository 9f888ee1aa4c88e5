"""Rights on the command line: ``create_children``, ``create-children``, ``access_parent_memory=false``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from deploy.cli.frame import UsageMistake
from swarm.errors import near
from swarm.records import AgentPermissions

_VALUES: Final = {"": True, "true": True, "yes": True, "false": False, "no": False}


def read_rights(words: Iterable[str]) -> dict[str, bool]:
    """Raises UsageMistake for a right that there is not."""
    rights = {}
    for word in words:
        name, _, value = word.partition("=")
        right = name.strip().replace("-", "_")
        if right not in AgentPermissions.__struct_fields__:
            known = AgentPermissions.__struct_fields__
            raise UsageMistake(
                f"There is no right {name!r}{near(right, known)} There are: {', '.join(known)}."
            )
        if value.lower() not in _VALUES:
            raise UsageMistake(f"{word!r}: a right is given (nothing, or =true) or taken (=false).")
        rights[right] = _VALUES[value.lower()]
    return rights
