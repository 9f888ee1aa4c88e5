"""From text to a checked value: TOML, ``${VAR}`` filled in, and every error at once, a sentence each."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError

from swarm.config.agreement import bad_names, disagreements
from swarm.config.sections import SLUG, AgentSection, SwarmConfig
from swarm.errors import ConfigError, near

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> SwarmConfig:
    """Read and check a swarm file. Raises ConfigError naming the file and every error in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"There is no {path}; `swarm init` makes one.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error
    return parse_config(text, path.name, environ)


def parse_config(
    text: str, name: str = "swarm.toml", environ: Mapping[str, str] | None = None
) -> SwarmConfig:
    """As `load_config`, from text; `environ` fills in ``${VAR}`` and ``${VAR:-default}``."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is not valid TOML: {error}.") from error
    errors: list[str] = []
    filled = _fill(raw, os.environ if environ is None else environ, "", errors)
    config: SwarmConfig | None = None
    try:
        config = SwarmConfig.model_validate(filled)
    except ValidationError as error:
        errors += [_sentence(found["loc"], found["type"], found["msg"]) for found in error.errors()]
    if config is not None:
        errors += disagreements(config)
    elif isinstance(filled.get("agents"), dict):
        errors += bad_names(filled["agents"])
    if config is None or errors:
        raise ConfigError(_all(name, errors))
    return config


def json_schema() -> dict[str, Any]:
    """The JSON Schema of swarm.toml, for editors."""
    schema = SwarmConfig.model_json_schema()
    for section in [schema, *schema["$defs"].values()]:
        if "description" in section:
            section["description"] = " ".join(section["description"].split())
    for names in ("agents", "groups"):
        schema["properties"][names]["propertyNames"] = {"pattern": SLUG}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "swarm.toml"}


def _all(name: str, errors: list[str]) -> str:
    if len(errors) == 1:
        return f"{name}: {errors[0]}"
    return f"{name} has {len(errors)} errors:\n" + "\n".join(f"  {error}" for error in errors)


def _fill(value: Any, environ: Mapping[str, str], where: str, errors: list[str]) -> Any:
    match value:
        case dict():
            return {key: _fill(each, environ, f"{where}.{key}", errors) for key, each in value.items()}
        case list():
            return [_fill(each, environ, f"{where}[{i}]", errors) for i, each in enumerate(value)]
        case str():

            def known(found: re.Match[str]) -> str:
                variable, default = found.groups()
                if variable in environ and (environ[variable] or default is None):
                    return environ[variable]
                if default is None:
                    errors.append(
                        f"{where[1:]} needs the environment variable {variable}; set it, or write "
                        f"${{{variable}:-default}}."
                    )
                    return found.group()
                return str(default)

            return _VARIABLE.sub(known, value)
    return value


def _sentence(where: tuple[int | str, ...], kind: str, text: str) -> str:
    place = ".".join(str(part) for part in where)
    match kind:
        case "extra_forbidden":
            return f"{place} is not a setting{near(str(where[-1]), _settings_at(where[:-1]))}"
        case "missing":
            return f"{place} is missing."
        case "string_pattern_mismatch" if where[-1] == "url":
            if where[0] == "bus":
                return f"{place} must be a URL such as nats://host."
            return (
                f"{place} must be a URL such as postgresql://host: a swarm's ledger is Postgres. SQLite is for one "
                "agent alone: swarm run."
            )
        case "string_pattern_mismatch":
            return f"{place} must be lower-case letters, digits, - and _, and begin with a letter or digit."
    return f"{place}: {text[:1].lower()}{text[1:]}."


def _settings_at(where: tuple[int | str, ...]) -> list[str]:
    model: Any = SwarmConfig
    for part in where:
        if model is dict:
            model = AgentSection
            continue
        annotation = model.model_fields[str(part)].annotation
        optional = next((one for one in get_args(annotation) if hasattr(one, "model_fields")), annotation)
        model = dict if getattr(annotation, "__origin__", None) is dict else optional
    return list(model.model_fields)
