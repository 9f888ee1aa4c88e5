"""The embedded Postgres with real processes, as root in both ways and as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from deploy.embedded import EmbeddedPostgres, FolderTaken, ServerFailed
from deploy.embedded.binaries import find_postgres
from deploy.embedded.rights import programs_for_nobody
from deploy.processes import ProcessId, Rights, nobody, processes_in
from swarm.testing import eventually

ROOT = Path(__file__).parents[2]
AS_ROOT = os.geteuid() == 0

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from deploy.embedded import EmbeddedPostgres

async def main():
    server = EmbeddedPostgres(sys.argv[1], outlive=sys.argv[2] == "outlive")
    await server.start()
    print(server.pid, server.port, flush=True)
    if sys.argv[2] == "stop":
        await server.stop()
    else:
        await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that others may pass, unlike tmp_path when we are root."""
    folder = Path(tempfile.mkdtemp(prefix="embedded "))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@asynccontextmanager
async def running(server: EmbeddedPostgres) -> AsyncIterator[EmbeddedPostgres]:
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        assert processes_in(server.data) == []


async def value(server: EmbeddedPostgres, sql: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def count_after_insert(server: EmbeddedPostgres) -> object:
    await value(server, "create table if not exists kept (at timestamptz default now())")
    await value(server, "insert into kept default values")
    return await value(server, "select count(*) from kept")


async def test_it_is_durable_private_and_takes_a_path_with_spaces_and_over_a_hundred_bytes(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ("a long folder with spaces " * 6).strip()
    async with running(EmbeddedPostgres(folder)) as server:
        for setting in ("fsync", "full_page_writes", "synchronous_commit", "data_checksums"):
            assert await value(server, f"show {setting}") == "on"
        assert await value(server, "show max_connections") == "400"
        assert await value(server, "show password_encryption") == "scram-sha-256"
        assert await value(server, "show unix_socket_directories") == ""
        assert await value(server, "select 'ä' < 'z' collate \"C\"") is not None
        password = (folder / "password").read_text().strip()
        assert len(password) >= 32 and password in server.url and password not in repr(server)
        assert (folder / "password").stat().st_mode & 0o777 == 0o600
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace(password, "wrong"))
        assert await count_after_insert(server) == 1
        port = server.port
    async with running(EmbeddedPostgres(folder)) as server:
        assert await count_after_insert(server) == 2 and server.port == port
        said = server.log_file.read_text()
        assert password not in said and "FATAL:  password authentication failed" in said


async def test_statements_and_values_do_not_reach_its_log(tmp_path: Path) -> None:
    async with running(EmbeddedPostgres(tmp_path)) as server:
        await value(server, "create table secrets (it text primary key)")
        for _ in range(2):
            with suppress(asyncpg.UniqueViolationError):
                await value(server, "insert into secrets values ('planted-secret')")
        said = server.log_file.read_text()
        assert "duplicate key" in said and "planted-secret" not in said


async def test_durability_cannot_be_traded_away(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match="fsync"):
        EmbeddedPostgres(tmp_path, settings={"fsync": "off"})
    async with running(EmbeddedPostgres(tmp_path, settings={"work_mem": "8MB"})) as server:
        await value(server, "alter system set fsync = off")
        assert await value(server, "show work_mem") == "8MB"
    async with running(server):
        assert await value(server, "show fsync") == "on"


async def test_a_kill_of_the_postmaster_keeps_what_was_committed(tmp_path: Path) -> None:
    """Its postmaster.pid still says ready after that, and its backends may be there still."""
    server = EmbeddedPostgres(tmp_path)
    async with running(server):
        assert await count_after_insert(server) == 1
        idle = await asyncpg.connect(server.url)
        os.kill(server.pid or 0, signal.SIGKILL)
        assert "signal 9" in await asyncio.wait_for(server.watch(), 5)
        assert (server.data / "postmaster.pid").read_text().rstrip().endswith("ready")
        await server.start()
        assert await count_after_insert(server) == 2
        idle.terminate()


async def test_a_stale_lock_file_whose_pid_is_another_programs_now_does_not_stop_it(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    async with running(server):
        lock = (server.data / "postmaster.pid").read_text().split("\n")
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            lock[0] = str(bystander.pid)
            (server.data / "postmaster.pid").write_text("\n".join(lock))
            async with running(server):
                assert await count_after_insert(server) == 1
            assert bystander.poll() is None
        finally:
            bystander.kill()


async def test_of_two_starts_at_once_one_wins(tmp_path: Path) -> None:
    servers = [EmbeddedPostgres(tmp_path), EmbeddedPostgres(tmp_path)]
    outcomes = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes if outcome] == [FolderTaken]
    for server in servers:
        await server.stop()
    assert processes_in(servers[0].data) == []


@pytest.mark.parametrize("fate", ["dies", "outlive"])
async def test_after_a_supervisor_was_killed_the_server_is_adopted_or_started_again(
    tmp_path: Path, fate: str
) -> None:
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path), fate], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert supervisor.stdout
    with supervisor.stdout as said:
        pid, port = map(int, said.readline().split())
        with pytest.raises(FolderTaken, match=str(supervisor.pid)):
            await EmbeddedPostgres(tmp_path).start()
        supervisor.kill()
        supervisor.wait()
    orphan = ProcessId.of(pid)
    async with running(EmbeddedPostgres(tmp_path)) as server:
        assert server.port == port
        assert (server.pid == pid) is (fate == "outlive")
        assert await count_after_insert(server) == 1
        if fate == "outlive":
            os.kill(pid, signal.SIGKILL)  # one that is not our child is watched as well
            assert str(pid) in await asyncio.wait_for(server.watch(), 5)
            await server.start()
            assert await count_after_insert(server) == 2
    assert orphan is None or not orphan.alive()


async def test_a_killed_first_start_leaves_no_half_cluster(tmp_path: Path) -> None:
    server = EmbeddedPostgres(tmp_path)
    starting = asyncio.ensure_future(server.start())
    await eventually(lambda: list(tmp_path.glob("new-*/data/*")))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not server.data.exists()
    async with running(server):
        assert await count_after_insert(server) == 1
    assert list(tmp_path.glob("new-*")) == []


async def test_a_lost_password_and_a_foreign_folder_are_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "one" / "data").mkdir(parents=True)
    with pytest.raises(ServerFailed, match="not a Postgres cluster"):
        await EmbeddedPostgres(tmp_path / "one").start()
    server = EmbeddedPostgres(tmp_path / "two")
    async with running(server):
        (server.folder / "password").unlink()
    with pytest.raises(ServerFailed, match="password is missing"):
        await server.start()


async def test_data_of_a_version_that_is_not_here_is_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "PG_VERSION").write_text("11\n")
    with pytest.raises(ServerFailed, match="Postgres 11"):
        await EmbeddedPostgres(tmp_path).start()


if AS_ROOT:  # an ordinary user has only its own rights, which every test above uses then

    async def test_without_user_namespaces_the_data_goes_to_nobody_and_back(open_folder: Path) -> None:
        uid, _ = nobody()
        for number, rights in enumerate((Rights.NOBODY, Rights.NAMESPACE, Rights.NOBODY), 1):
            async with running(EmbeddedPostgres(open_folder / "pg", rights=rights)) as server:
                assert await count_after_insert(server) == number
                owner = server.data.stat().st_uid
                assert owner == (uid if rights is Rights.NOBODY else 0)
                assert Path(f"/proc/{server.pid}").stat().st_uid == owner
                assert (server.folder / "password").stat().st_uid == 0

    async def test_a_folder_that_nobody_cannot_enter_is_said_and_left_as_it_is(tmp_path: Path) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(ServerFailed, match=r"cannot enter|initdb"):
            await EmbeddedPostgres(closed / "pg", rights=Rights.NOBODY).start()
        assert closed.stat().st_mode & 0o777 == 0o700

    async def test_programs_that_nobody_can_reach_are_copied_with_their_libraries(
        tmp_path: Path, open_folder: Path
    ) -> None:
        tmp_path.chmod(0o700)
        programs = find_postgres()
        for root in programs.roots:
            shutil.copytree(root, tmp_path / "venv" / root.name, symlinks=True)
        hidden = type(programs)(
            tmp_path / "venv" / programs.roots[0].name / "pginstall" / "bin", programs.major
        )
        moved = await programs_for_nobody(hidden, open_folder)
        assert moved.folder.is_relative_to(open_folder)
        assert await programs_for_nobody(programs, open_folder) == programs

    async def test_an_ordinary_user_runs_it_too(open_folder: Path) -> None:
        uid, gid = nobody()
        home = open_folder / "home of nobody"
        home.mkdir()
        os.chown(home, uid, gid)
        done = await asyncio.to_thread(
            subprocess.run,
            [_python_for_all(), "-c", SUPERVISOR, str(home / "pg"), "stop"],
            cwd=ROOT,
            user=uid,
            group=gid,
            extra_groups=[],
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert (home / "pg" / "data").stat().st_uid == uid
        assert processes_in(home / "pg" / "data") == []

    def _python_for_all() -> str:
        """An interpreter that nobody may run: ours may lie in root's home."""
        uid, gid = nobody()
        asked = [sys.executable, "/usr/bin/python3"]
        for program in asked:
            with suppress(OSError):
                subprocess.run(
                    [program, "-c", "import sys; assert sys.version_info >= (3, 11)"],
                    user=uid,
                    group=gid,
                    check=True,
                )
                return program
        raise AssertionError(f"nobody can run none of {asked}")
