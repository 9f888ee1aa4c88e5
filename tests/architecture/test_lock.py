"""requirements.lock: every dependency at one version, by hash, from no index in particular."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version

from tests.architecture.tree import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
BLOCK = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;]+)([^\n]*)\n((?:    \S[^\n]*\n)*)", re.MULTILINE)
BLOCKS = BLOCK.findall(LOCK)


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_it_says_nothing_but_pins() -> None:
    rest = [line for line in BLOCK.sub("", LOCK).splitlines() if line and not line.startswith("#")]
    assert len(BLOCKS) > 20 and rest == []


def test_every_pin_has_a_hash() -> None:
    for name, _, more, below in BLOCKS:
        hashes = re.findall(r"--hash=(\S+)", more + below)
        assert hashes, f"{name} has no hash"
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), name


def test_it_names_no_host() -> None:
    assert "://" not in LOCK
    assert not re.search(r"^\s*--(?!hash=)|index|find-links", LOCK, re.MULTILINE)


def test_everything_that_the_project_asks_for_is_in_it() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        pyproject = tomllib.load(file)
    project = pyproject["project"]
    asked = [
        *project["dependencies"],
        *(each for extra in project["optional-dependencies"].values() for each in extra),
        *pyproject["dependency-groups"]["dev"],
        *pyproject["build-system"]["requires"],
    ]
    locked = {plain(name) for name, *_ in BLOCKS}
    assert {plain(re.split(r"[^\w.-]", line)[0]) for line in asked} <= locked


def test_these_tests_run_on_what_is_locked() -> None:
    for name in ("pydantic", "msgspec", "nats-py", "asyncpg", "pytest"):
        pinned = {pin for locked, pin, *_ in BLOCKS if plain(locked) == name}
        assert version(name) in pinned, f"{name} is another here; run `make install`"
