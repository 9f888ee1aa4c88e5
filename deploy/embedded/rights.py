"""Whose rights Postgres gets: it refuses to run as root.

not root                           our own
root, user namespaces allowed      a namespace that shows nobody; files stay root's
root, not allowed (containers)     the user nobody; the data is given to nobody
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from deploy.embedded.binaries import PostgresPrograms
from deploy.embedded.server import ServerFailed, run_tool
from deploy.processes import Rights, nobody


async def choose_rights(folder: Path) -> Rights:
    """The best that works on this machine, tried by doing it."""
    if os.geteuid() != 0:
        return Rights.OWN
    code, _ = await run_tool([], log_file=folder / "check.log", environment={}, rights=Rights.NAMESPACE)
    return Rights.NAMESPACE if code == 0 else Rights.NOBODY


def give(folder: Path, rights: Rights) -> None:
    """Makes a folder and all in it belong to whom the server's rights are; blocks while it walks.

    Links are not followed: what nobody could write must not lead root elsewhere.
    """
    if os.geteuid() != 0:
        return
    uid, gid = nobody() if rights is Rights.NOBODY else (0, 0)
    if folder.lstat().st_uid == uid:
        return
    for path, names, files in os.walk(folder, topdown=False):
        for name in names + files:
            os.chown(Path(path) / name, uid, gid, follow_symlinks=False)
    os.chown(folder, uid, gid, follow_symlinks=False)  # last: it tells that the rest is done


async def reachable(path: Path, folder: Path) -> bool:
    """Whether the user nobody can run this program."""
    code, _ = await run_tool(
        [path, "--version"],
        log_file=folder / "check.log",
        environment={},
        rights=Rights.NOBODY,
        cwd=Path("/"),
    )
    return code == 0


async def programs_for_nobody(programs: PostgresPrograms, folder: Path) -> PostgresPrograms:
    """The programs where nobody can run them: where they are, else a copy in `folder`. Raises ServerFailed.

    Modes of folders that are not ours are never changed.
    """
    if await reachable(programs.postgres, folder):
        return programs
    copy = folder / f"postgres-{programs.major}"
    if not copy.is_dir() and programs.roots:
        await asyncio.to_thread(_copy, programs.roots, folder / "postgres-half", copy)
    for root in programs.roots[:1]:
        moved = PostgresPrograms(
            copy / root.name / "pginstall" / "bin",
            programs.major,
            {
                name: value.replace(str(root.parent), str(copy))
                for name, value in programs.environment.items()
            },
        )
        if await reachable(moved.postgres, folder):
            return moved
    raise ServerFailed(
        f"Postgres does not run as root, and the user nobody cannot enter {folder}; "
        "put the project where others may pass, or do not run as root.",
        reason="not_reachable",
    )


def _copy(roots: list[Path], half: Path, whole: Path) -> None:
    shutil.rmtree(half, ignore_errors=True)
    for root in roots:
        shutil.copytree(root, half / root.name, symlinks=True)
    half.chmod(0o755)
    half.rename(whole)
