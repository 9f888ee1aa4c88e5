"""One coroutine for every kind of source. The scheme is looked at first: a URL may end like a file."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from swarm.character.document import InvalidCharacter
from swarm.character.model import Character
from swarm.character.plugins import plugin_warnings
from swarm.character.sources.environment import read_environment
from swarm.character.sources.files import near_paths, read_path
from swarm.errors import CharacterError, UnknownAgent
from swarm.ids import string_to_uuid

log = logging.getLogger(__name__)

Source = str | os.PathLike[str] | Mapping[str, Any] | Character


class CharacterStore(Protocol):
    """The part of a store that `agent:<id>` needs."""

    async def get_character(self, id: str) -> dict[str, Any] | None: ...


async def load_character(
    source: Source,
    *,
    allow_code: bool = True,
    store: CharacterStore | None = None,
    allow_private: bool = False,
    allow_http: bool = False,
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
    environ: Mapping[str, str] | None = None,
) -> Character:
    """Load a character from:

        a dict, a Character       copied, never changed
        `x.json|.toml|.yaml`      a file
        `x.py`                    its `character`, else its `default`; runs it, so servers say allow_code=False
        a folder                  of the gallery: its one character.json, .toml or .yaml
        `env:`                    AGENT_* variables (of `environ`, by default the process's)
        `https://…`               within `timeout` seconds; see sources/web.py for what is refused
        `agent:<id>`              from `store`: an agent's id, or its name

    Raises CharacterError with one sentence; InvalidCharacter for what was read and is no character, all
    errors at once; UnknownAgent for an agent the store does not have.
    """
    document = await read_document(
        source,
        allow_code=allow_code,
        store=store,
        allow_private=allow_private,
        allow_http=allow_http,
        timeout=timeout,
        tls=tls,
        environ=environ,
    )
    try:
        character = Character(**_text_keys(document))
    except InvalidCharacter as error:
        raise InvalidCharacter(list(error.errors), describe(source)) from None
    for warning in plugin_warnings(character.plugins):
        log.warning("%s: %s", character.name, warning)
    return character


async def read_document(
    source: Source,
    *,
    allow_code: bool = True,
    store: CharacterStore | None = None,
    allow_private: bool = False,
    allow_http: bool = False,
    timeout: float = 10.0,
    tls: ssl.SSLContext | None = None,
    environ: Mapping[str, str] | None = None,
) -> Mapping[str, Any]:
    """The document of a source as it is written, unchecked: what lint looks at."""
    match source:
        case Character():
            return source.unsealed()
        case Mapping():
            return source
        case str():
            scheme, colon, rest = source.partition(":")
        case os.PathLike():
            scheme, colon, rest = "", "", ""
        case _:
            raise unknown_source(source)
    match scheme.lower():
        case "http" | "https" if colon:
            from swarm.character.sources.web import Reach, read_url

            return await read_url(str(source), Reach(timeout, allow_private, allow_http, tls))
        case "env" if colon:
            if rest:
                raise unknown_source(source)
            return read_environment(os.environ if environ is None else environ)
        case "agent" if colon:
            return await _from_store(rest, store)
    if not str(source) or "://" in str(source):  # another scheme, however much its end looks like a file's
        raise unknown_source(source)
    path = Path(source)
    document = await asyncio.to_thread(read_path, path, allow_code=allow_code)
    if document is None:
        raise unknown_source(source, near_paths(path) if os.sep in str(source) else "")
    return document


def describe(source: Source) -> str:
    """A source in words for an error or a log: its path or URL, without what a URL may hide."""
    match source:
        case Character():
            return f"the character {source.name}"
        case str() if "://" in source:
            from swarm.character.sources.web import shown

            return shown(source)
        case str() | os.PathLike():
            return os.fspath(source)
    return "a document"


def unknown_source(source: object, hint: str = "") -> CharacterError:
    shown = describe(source) if isinstance(source, str | os.PathLike) else repr(source)[:100]
    return CharacterError(f"Unknown character source: {shown}{hint}", reason="unknown_source")


async def _from_store(agent: str, store: CharacterStore | None) -> dict[str, Any]:
    if not agent.strip():
        raise CharacterError("agent: needs an id, as in agent:b850bc30-45f8-0041-a00a-83df46d8555d.")
    if store is None:
        raise CharacterError(
            f"agent:{agent} is looked up in a store, and there is none here; load it from a file."
        )
    document = await store.get_character(string_to_uuid(agent))
    if document is None:
        raise UnknownAgent(agent)
    return document


def _text_keys(document: Mapping[Any, Any]) -> dict[str, Any]:
    """Keyword arguments must have text keys; others are reported like every other error."""
    wrong = [f"the key {key!r} must be text" for key in document if not isinstance(key, str)]
    if wrong:
        raise InvalidCharacter(wrong)
    return dict(document)
