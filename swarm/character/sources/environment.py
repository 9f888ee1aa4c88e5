"""A character from environment variables, for containers without files.

    AGENT_NAME              text, `DefaultAgent` unless given
    AGENT_BIO               text or a JSON list, `A helpful assistant` unless given
    AGENT_ID, _USERNAME, _SYSTEM, _MODEL_PROVIDER        text
    AGENT_LORE              text or a JSON list
    AGENT_TOPICS, _ADJECTIVES, _MESSAGE_EXAMPLES, _POST_EXAMPLES, _PLUGINS, _KNOWLEDGE, _CLIENTS   JSON lists
    AGENT_STYLE, _SETTINGS, _SECRETS, _TEMPLATES         JSON objects

An empty variable counts as not given, because compose files and charts pass on what they lack as "".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from swarm.character.document import FIELDS
from swarm.errors import CharacterError

DEFAULT_NAME: Final = "DefaultAgent"
DEFAULT_BIO: Final = "A helpful assistant"

VARIABLES: Final = {f"AGENT_{name.upper()}": key for name, key in FIELDS.items()}
_TEXT: Final = frozenset({"id", "name", "username", "system", "modelProvider"})
_TEXT_OR_LIST: Final = frozenset({"bio", "lore"})


def read_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    """The document that these variables spell. Raises CharacterError for a variable that is not JSON."""
    document: dict[str, Any] = {"name": DEFAULT_NAME, "bio": DEFAULT_BIO}
    for variable, key in VARIABLES.items():
        if text := environ.get(variable, ""):
            document[key] = _read(variable, key, text)
    return document


def _read(variable: str, key: str, text: str) -> Any:
    if key in _TEXT or (key in _TEXT_OR_LIST and not text.lstrip().startswith("[")):
        return text
    try:
        return json.loads(text)
    except RecursionError:
        raise CharacterError(f"{variable} is nested too deep.") from None
    except json.JSONDecodeError as error:  # the sentence must not quote the text: it may be AGENT_SECRETS
        if key in _TEXT_OR_LIST:
            return text
        raise CharacterError(f"{variable} must be JSON: {error.msg} at character {error.pos + 1}.") from None
    except ValueError:
        raise CharacterError(f"{variable} must be JSON: a number in it is too long.") from None
