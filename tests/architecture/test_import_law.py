"""agents → swarm → bus; coordinator → swarm, bus; deploy → all. The contracts are in pyproject.toml."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.architecture.tree import PACKAGES, ROOT, modules

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINTER = Path(sys.executable).parent / "lint-imports"
NOT_FOR_AGENTS = {"bus", "coordinator", "deploy", "nats", "nkeys", "asyncpg"}
"""Though the project has them: an agent talks through `swarm`."""


def lint(folder: Path, config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [LINTER, "--config", config, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=60
    )


def test_the_contracts_are_kept() -> None:
    done = lint(ROOT, ROOT / "pyproject.toml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(PYPROJECT['tool']['importlinter']['contracts'])} kept, 0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("bus/link.py", "import swarm.records"),
        ("bus/link.py", "import asyncpg"),
        ("swarm/client.py", "import deploy.node"),
        ("swarm/client.py", "import coordinator"),
        ("swarm/client.py", "import nats"),
        ("swarm/agent/turn.py", "import asyncpg"),
        ("coordinator/term.py", "import deploy.node"),
        ("coordinator/term.py", "from nkeys import create"),
        ("deploy/node.py", "import asyncpg"),
    ],
)
def test_the_contracts_would_catch(module: str, line: str, tmp_path: Path) -> None:
    """Each on a copy of the tree's outline: the named module with that one import, all others empty."""
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
    for path in (*modules(*PACKAGES), module):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("import asyncpg" if path == "swarm/stores/postgres/pool.py" else "")
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    assert lint(tmp_path, tmp_path / "pyproject.toml").returncode == 0
    (tmp_path / module).write_text(line)
    done = lint(tmp_path, tmp_path / "pyproject.toml")
    assert done.returncode == 1 and "BROKEN" in done.stdout, done.stdout + done.stderr


def test_the_gallery_imports_only_swarm_and_declared_libraries() -> None:
    project = PYPROJECT["project"]
    declared = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    distributions = {_plain(re.split(r"[^\w.-]", line)[0]) for line in declared}
    imports = {
        name for name, owners in packages_distributions().items() if distributions & set(map(_plain, owners))
    }
    allowed = sys.stdlib_module_names | {"swarm"} | (imports - NOT_FOR_AGENTS - set(PACKAGES))
    for path, module in modules("agents").items():
        for line, name in _imported(module):
            assert name in allowed, f"{path}:{line} imports {name}"


def test_a_gallery_folder_knows_no_other() -> None:
    for path, module in modules("agents").items():
        for node in ast.walk(module):
            if isinstance(node, ast.ImportFrom) and node.level:
                depth = len(Path(path).parts) - 2  # agents/NAME/plugin.py may go up once: to agents/NAME
                assert node.level <= depth, f"{path}:{node.lineno} reaches out of its folder"


def test_gallery_folders_are_no_packages() -> None:
    assert not list((ROOT / "agents").rglob("__init__.py"))


def _imported(module: ast.Module) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append((node.lineno, str(node.module).partition(".")[0]))
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
