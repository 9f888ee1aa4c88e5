"""A copy of all that is durable, and a swarm made from it: the swarm's schema, by Postgres's own dump.

In the copy: agents, mail, tasks, memories, dead letters, what was spawned. Not in it: keys and passwords. A machine
that restores it has its own, and the next `swarm up` gives every agent its login anew.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from deploy.embedded import EmbeddedPostgres
from deploy.embedded.binaries import find_postgres
from deploy.embedded.server import ServerFailed
from deploy.supervisor import is_locked
from swarm.config import load_config
from swarm.errors import NotRunning, StoreError, UsageError
from swarm.project import Project

TOOL_SECONDS: Final = 3600.0


async def back_up(project: Project, file: Path) -> int:
    """Write the copy to `file` while the swarm runs; what is accepted meanwhile may be in it or not. Returns its size
    in bytes. Raises NotRunning, UsageError for a file that is there, StoreError when the dump fails."""
    from swarm.stores.postgres.names import schema_name

    url, schema = _owners_url(project), schema_name(project.require_state().swarm)
    with _written_whole(file) as half:
        words = ["--format=custom", "--no-owner", f'--schema="{schema}"', f"--file={half}"]
        await _tool("pg_dump", url, words)
        return half.stat().st_size


async def restore(project: Project, file: Path) -> None:
    """Make the swarm's schema from the copy. Raises UsageError while the swarm runs, or when it has one already."""
    if is_locked(project):
        raise UsageError("The swarm runs; stop it with `swarm down` first.")
    config = load_config(project.file)
    project.prepare()
    from swarm.stores.postgres.restoring import make_room

    async with _database(project, config.store.url) as url:
        await make_room(url, config.swarm.name)
        await _tool("pg_restore", url, ["--no-owner", "--exit-on-error", "--single-transaction", str(file)])


@contextmanager
def _written_whole(file: Path) -> Iterator[Path]:
    """A private file that becomes `file` when all is written: it holds all memories and mail."""
    if file.exists():
        raise UsageError(f"{file} is there already; a copy does not overwrite another. Choose another name.")
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        os.close(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error.strerror}.") from error
    try:
        yield half
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)


def _owners_url(project: Project) -> str:
    try:
        return (project.home / "secrets" / "store_url").read_text().strip()
    except OSError as error:
        raise NotRunning(f"No swarm was started from {project.folder}; start it with `swarm up`.") from error


@asynccontextmanager
async def _database(project: Project, url: str | None) -> AsyncIterator[str]:
    """The project's database, started for as long as this takes if it is the embedded one."""
    if url is not None:
        yield url
        return
    server = EmbeddedPostgres(project.home / "postgres", mark=project.mark)
    await server.start()
    try:
        yield server.url
    finally:
        await server.stop()


async def _tool(name: str, url: str, words: list[str]) -> None:
    """Run one of Postgres's programs on the database of `url`; its password goes by the environment, where no list of
    processes shows it. Raises StoreError with what it said last."""
    program, environment = _program(name)
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    address = urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host))
    child = await asyncio.create_subprocess_exec(
        program,
        f"--dbname={address}",
        "--no-password",
        *words,
        env={**os.environ, **environment, "PGPASSWORD": unquote(parts.password or "")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(TOOL_SECONDS):
            _, said = await child.communicate()
    except BaseException:
        if child.returncode is None:
            child.kill()
            await child.wait()
        raise
    if child.returncode:
        last = said.decode(errors="replace").strip().splitlines()
        raise StoreError(f"{name} failed: {last[-1] if last else child.returncode}.", reason="tool_failed")


def _program(name: str) -> tuple[str, dict[str, str]]:
    try:
        programs = find_postgres()
        if (programs.folder / name).exists():
            return str(programs.folder / name), programs.environment
    except ServerFailed:
        pass
    found = shutil.which(name)
    if found is None:
        raise StoreError(f"{name} is not here; install Postgres's client programs.", reason="no_program")
    return found, {}
