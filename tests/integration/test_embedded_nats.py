"""The embedded nats-server with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.errors import Error as NatsError

from deploy.embedded import EmbeddedNats, FolderTaken, PortTaken, ServerFailed
from deploy.processes import ProcessId, find_strays, read_record
from swarm.testing import eventually, others_run

ROOT = Path(__file__).parents[2]

SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from deploy.embedded import EmbeddedNats, FolderTaken, PortTaken, ServerFailed

async def main():
    server = EmbeddedNats(sys.argv[1], outlive=sys.argv[2] == "outlive", mark=sys.argv[3])
    await server.start()
    print(server.pid, server.port, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@asynccontextmanager
async def running(server: EmbeddedNats) -> AsyncIterator[EmbeddedNats]:
    await server.start()
    process = server.process
    try:
        yield server
    finally:
        await server.stop()
        assert process and not process.alive()


async def test_it_starts_serves_and_stops_in_a_folder_with_spaces(tmp_path: Path) -> None:
    async with running(EmbeddedNats(tmp_path / "a folder with spaces")) as server:
        client = await nats.connect(server.url)
        inbox = await client.subscribe("greeting")
        await client.publish("greeting", b"hello")
        assert (await inbox.next_msg(2)).data == b"hello"
        await client.close()
        assert server.config_file.stat().st_mode & 0o777 == 0o600
        port = server.port
    assert server.pid is None
    async with running(server):
        assert server.port == port, "clients find it where it was"


async def test_its_configuration_rules_and_a_reload_changes_it_without_cutting_others(tmp_path: Path) -> None:
    users = "authorization {{ users = [ {{user: a, password: pa}}, {} ] }}"
    first, second = users.format(""), users.format("{user: b, password: pb}")
    async with running(EmbeddedNats(tmp_path, config_text=first)) as server:
        a = await nats.connect(server.url, user="a", password="pa")
        refused_client = nats.NATS()
        with pytest.raises(NatsError):
            await refused_client.connect(server.url, user="b", password="pb", allow_reconnect=False)
        await refused_client.close()
        await server.reload(second)
        b = await nats.connect(server.url, user="b", password="pb")
        await b.close()
        assert a.is_connected and a.stats["reconnects"] == 0
        await a.close()
        with pytest.raises(ServerFailed, match="did not reload"):
            await server.reload('leafnodes { listen: "127.0.0.1:-1" }')
        assert second in server.config_file.read_text()
        with pytest.raises(ServerFailed, match="refuses") as refused:
            await server.reload('authorization { users = [ {user: c, passwd: "planted-secret"} ] }')
        assert "planted-secret" not in str(refused.value)
        assert second in server.config_file.read_text()


async def test_a_second_supervisor_of_one_folder_is_told_who_has_it(tmp_path: Path) -> None:
    async with running(EmbeddedNats(tmp_path)):
        with pytest.raises(FolderTaken, match=str(os.getpid())):
            await EmbeddedNats(tmp_path).start()


async def test_of_two_starts_at_once_one_wins(tmp_path: Path) -> None:
    servers = [EmbeddedNats(tmp_path), EmbeddedNats(tmp_path)]
    outcomes = await asyncio.gather(*(server.start() for server in servers), return_exceptions=True)
    assert sorted(type(outcome) for outcome in outcomes if outcome) == [FolderTaken]
    for server in servers:
        await server.stop()


async def test_a_port_of_somebody_else_is_an_error_and_a_port_lost_in_a_race_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        with pytest.raises(PortTaken, match=str(taken)):
            await EmbeddedNats(tmp_path, port=taken).start()
        free = iter([taken, taken])  # what was free when it was looked for
        monkeypatch.setattr(
            "deploy.embedded.server.free_port", lambda: next(free, None) or _another_port(taken)
        )
        async with running(EmbeddedNats(tmp_path)) as server:
            assert server.port != taken


def _another_port(taken: int) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        assert probe.getsockname()[1] != taken
        return int(probe.getsockname()[1])


async def test_a_bad_configuration_is_said_in_a_sentence_and_leaves_no_process(tmp_path: Path) -> None:
    with pytest.raises(ServerFailed, match=r"Parse error on line.*correct it"):
        await EmbeddedNats(tmp_path, config_text="authorization { users = [").start()
    async with running(EmbeddedNats(tmp_path)):  # nor a lock
        pass


async def test_its_unasked_end_is_seen_and_it_can_be_started_again(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    async with running(server):
        os.kill(server.pid or 0, signal.SIGKILL)
        assert "signal 9" in await asyncio.wait_for(server.watch(), 5)
        assert not server.running
        await server.start()
        await (await nats.connect(server.url)).close()
        watching = asyncio.ensure_future(server.watch())
        await others_run()
        await server.stop()
        assert await asyncio.wait_for(watching, 5) == ""


async def test_its_log_is_bounded(tmp_path: Path) -> None:
    async with running(EmbeddedNats(tmp_path)) as server:
        with server.log_file.open("ab") as file:
            file.truncate(11_000_000)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(server.watch(trim_every=0.01))
            await eventually(lambda: server.log_file.stat().st_size <= 100_000)
            watching.cancel()


@pytest.mark.parametrize("fate", ["dies", "outlive"])
async def test_after_a_supervisor_was_killed_the_folder_can_be_used_again(tmp_path: Path, fate: str) -> None:
    mark = f"test-{os.getpid()}-{fate}"
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, str(tmp_path), fate, mark], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert supervisor.stdout
    with supervisor.stdout as said:
        pid, port = map(int, said.readline().split())
        orphan = ProcessId.of(pid)
        assert orphan and read_record(tmp_path / "server.json")[0] == orphan
        assert orphan in find_strays(mark)
        supervisor.kill()
        supervisor.wait()
    if fate == "dies":
        assert await orphan.gone(5.0)
    else:
        assert orphan.alive()
    async with running(EmbeddedNats(tmp_path)) as server:
        assert not orphan.alive() and server.pid != pid and server.port == port


async def test_a_record_whose_pid_is_another_programs_now_harms_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "600"]) as bystander:
        try:
            (tmp_path / "server.json").write_text(
                f'{{"pid": {bystander.pid}, "started": "0000-1", "port": 1}}'
            )
            async with running(EmbeddedNats(tmp_path)):
                assert bystander.poll() is None
        finally:
            bystander.kill()
