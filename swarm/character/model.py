"""A character: who an agent is, as one frozen value.

In Python the names are snake_case, in files camelCase; keys we do not know are kept as they are. The lists
and tables inside belong to this character alone (nothing is shared with what it was made from), so
change a copy, not them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from swarm.character.document import FIELDS, KNOWN_KEYS, STYLE_KEYS, InvalidCharacter, copy_document
from swarm.character.secrets import GuardedSettings, Sealed, is_secret, without_secrets
from swarm.character.validation import document_errors
from swarm.ids import string_to_uuid
from swarm.settings import SettingLayers

RUN_STATE: Final = frozenset({"enabled", "status", "createdAt", "updatedAt"})
"""What an exported agent carries besides its character; it does not count towards the version."""

_JS_SPACE = re.compile("[\t\n\v\f\r \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\ufeff]+")
_LISTS: Final = ("topics", "adjectives", "messageExamples", "postExamples", "plugins")


class Line(NamedTuple):
    """A line of an example conversation. `speaker` may be a placeholder such as ``{{user1}}``."""

    speaker: str
    text: str
    actions: tuple[str, ...] = ()


def username_of(name: str) -> str:
    """``My  Agent`` → ``my_agent``: lower case, each run of white space one underscore; nothing else changes."""
    return _JS_SPACE.sub("_", name.lower())


class Character(BaseModel):
    """Raises InvalidCharacter with every error at once. See docs/guide/characters.md for the fields.

    Secrets are out of repr, str, `model_dump` and `public()`; `unsealed()` alone gives them.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="allow",
        alias_generator=to_camel,
        populate_by_name=True,
        hide_input_in_errors=True,
        protected_namespaces=(),
    )

    id: str
    name: str
    username: str
    bio: str | list[str]
    system: str | None = None
    topics: list[str]
    adjectives: list[str]
    message_examples: list[Any]
    post_examples: list[Any]
    style: dict[str, Any]
    settings: Annotated[dict[str, Any], AfterValidator(GuardedSettings)]
    secrets: Annotated[dict[str, Any], AfterValidator(Sealed)]
    plugins: list[str]
    knowledge: list[Any] | None = None
    templates: dict[str, str] | None = None
    lore: str | list[str] | None = None
    clients: list[str] | None = None
    model_provider: str | None = None

    _hoisted: dict[str, Any] = PrivateAttr(default_factory=Sealed)
    """Settings that are secrets, by key; the copy in `secrets` is the one that answers."""
    _given_secrets: frozenset[str] = PrivateAttr(default=frozenset())

    def __init__(self, /, **document: Any) -> None:
        copied, errors = copy_document(document)
        errors.extend(document_errors(copied))
        if errors:
            raise InvalidCharacter(errors)
        _fill_defaults(copied)
        given = frozenset(copied["secrets"])
        hoisted = _hoist(copied["settings"], copied["secrets"])
        try:
            super().__init__(**copied)
        except ValidationError as error:  # only the fields of a subclass can get here
            raise InvalidCharacter(
                [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False)]
            ) from None
        self._hoisted = hoisted
        self._given_secrets = given

    # ── as a document ─────────────────────────────────────────────────────────────────────────────
    def public(self) -> dict[str, Any]:
        """The document (camelCase, JSON-able, fresh) without secrets: what is stored, sent and shown."""
        return without_secrets(self._document())

    def unsealed(self) -> dict[str, Any]:
        """The whole document with its secrets where they stood. For hands that need them; never log it."""
        document = self._document()
        for key in self._hoisted.keys() - self._given_secrets:
            del document["secrets"][key]
        document["settings"].update(_plain(self._hoisted))
        return document

    @property
    def version(self) -> str:
        """12 hex digits that change when, and only when, the public document does (times and status apart)."""
        public = {key: value for key, value in self.public().items() if key not in RUN_STATE}
        canonical = json.dumps(public, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(canonical.encode()).hexdigest()[:12]

    def _document(self) -> dict[str, Any]:
        values = ((alias, getattr(self, name)) for name, alias in FIELDS.items())
        document = {alias: _plain(value) for alias, value in values if value is not None}
        document.update(_plain(self.model_extra or {}))
        return document

    @model_serializer(mode="wrap")
    def _serialize(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_secrets(handler(self))

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from (("name", self.name), ("id", self.id), ("version", self.version))

    # ── settings ──────────────────────────────────────────────────────────────────────────────────
    def setting_layers(
        self, *, runtime: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> SettingLayers:
        """This character's settings over the runtime's and, only if given, the environment's."""
        return SettingLayers(secrets=self.secrets, settings=self.settings, runtime=runtime, environ=environ)

    def get_setting(self, key: str, default: Any = None) -> Any:
        """The value of a setting in this character: secrets → settings → settings.secrets."""
        return self.setting_layers().get(key, default)

    # ── as a prompt needs it ──────────────────────────────────────────────────────────────────────
    @property
    def bio_lines(self) -> tuple[str, ...]:
        return _lines(self.bio)

    @property
    def lore_lines(self) -> tuple[str, ...]:
        return _lines(self.lore)

    @property
    def posts(self) -> tuple[str, ...]:
        """The texts of `post_examples`, which some files write as objects (`text`, `post` or `content`)."""
        return tuple(text for post in self.post_examples if (text := _text_of(post)))

    @property
    def conversations(self) -> tuple[tuple[Line, ...], ...]:
        """`message_examples` of all three generations in one shape."""
        return tuple(
            tuple(_line(line) for line in (given["examples"] if isinstance(given, dict) else given))
            for given in self.message_examples
        )

    def fill(self, text: str, user: str = "user") -> str:
        """Fill the placeholders ``{{name}}``, ``{{agentName}}`` and ``{{user}}``, ``{{user1}}``, …"""
        filled = re.sub(r"\{\{\s*(?:name|agentName|char)\s*\}\}", lambda _: self.name, text)
        return re.sub(r"\{\{\s*user\d*\s*\}\}", lambda _: user, filled)


def _fill_defaults(document: dict[str, Any]) -> None:
    """A10, in place, on a document that is our own copy. None and an empty username are "not given"."""
    for key in KNOWN_KEYS:
        if document.get(key, "") is None:
            del document[key]
    document["id"] = document.get("id", "").lower() or string_to_uuid(document["name"])
    document["username"] = document.get("username") or username_of(document["name"])
    for key in _LISTS:
        document.setdefault(key, [])
    style = document.setdefault("style", {})
    for key in STYLE_KEYS:
        if style.get(key) is None:
            style[key] = []
    document.setdefault("secrets", {})
    settings = document.setdefault("settings", {})
    if isinstance(settings.get("secrets"), dict):
        settings["secrets"] = Sealed(settings["secrets"])


def _hoist(settings: dict[str, Any], secrets: dict[str, Any]) -> Sealed:
    """Move settings that are secrets to `secrets`, where one that is set already stays. Returns the moved."""
    moved = Sealed({k: v for k, v in settings.items() if k != "secrets" and is_secret(k, v)})
    for key, value in moved.items():
        del settings[key]
        if secrets.get(key) is None:
            secrets[key] = value
    return moved


def _plain(value: Any) -> Any:
    """A deep copy in which tables are ordinary dicts, so that what is shown shows all it has."""
    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list():
            return [_plain(item) for item in value]
    return value


def _lines(text: str | list[str] | None) -> tuple[str, ...]:
    given = [text] if isinstance(text, str) else text or []
    return tuple(line for line in given if line.strip())


def _text_of(value: Any) -> str:
    match value:
        case str():
            return value
        case {"text": inner} | {"post": inner} | {"content": inner}:
            return _text_of(inner)
    return ""


def _line(line: dict[str, Any]) -> Line:
    content = line["content"]
    actions: Any = ()
    if isinstance(content, dict):
        actions = content.get("actions") or content.get("action") or ()
    named = [actions] if isinstance(actions, str) else actions if isinstance(actions, list) else ()
    return Line(
        str(line.get("name", line.get("user"))),
        _text_of(content),
        tuple(action for action in named if isinstance(action, str)),
    )
