"""`swarm run`: one agent alone over HTTP (H1 to H4, H7, G10), as a real process, spoken to over a real connection."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.alone.store import store_of
from swarm.character import Character
from swarm.errors import StoreError
from swarm.ids import new_id, string_to_uuid
from swarm.stores.sqlite import private_store
from tests.alone import JSON, STREAM, Run, environment, running, workshop
from tests.contract.store_fixtures import postgres_server, postgres_url
from tests.proxy import Proxy
from tests.servers import free_port

__all__ = ["postgres_server", "postgres_url"]

TOKEN = "run-token-7f3a"


@pytest.fixture(scope="module")
def smith(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """One process for all that leaves it as it was."""
    folder = tmp_path_factory.mktemp("alone")
    with running(folder, workshop(folder)) as run:
        assert run.ready()["url"] == run.url
        yield run


# ── asking ────────────────────────────────────────────────────────────────────────────────────────


def test_h2_a_message_in_json_has_its_answer_in_json(smith: Run) -> None:
    answer = smith.say("echo: hello", sender="ann", room="kitchen", id="m-1")
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "id": "m-1",
        "from": "smith",
        "room": "kitchen",
        "text": "echo: hello",
        "data": {"sender": "ann", "marks": {}},
    }


def test_h2_a_message_in_the_shape_of_elizaos_is_taken_too(smith: Run) -> None:
    entity = string_to_uuid("ann")
    body = {
        "entityId": entity,
        "roomId": string_to_uuid("kitchen"),
        "agentId": string_to_uuid("Smith"),
        "createdAt": 1767225600000,
        "content": {"text": "echo: hello", "source": "client_chat"},
    }
    told = smith.client.post("/message", json=body).json()
    assert told["text"] == "echo: hello" and told["room"] == string_to_uuid("kitchen")
    assert told["data"] == {"sender": entity, "marks": {"source": "client_chat"}}


def test_h2_a_stream_is_asked_for_by_accept_and_comes_piece_by_piece_in_order(smith: Run) -> None:
    events: list[tuple[str, Any]] = []
    with smith.client.stream("POST", "/message", json={"text": "pieces: please"}, headers=STREAM) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                events.append((name, json.loads(line.removeprefix("data: "))))
    chunks = [told for name, told in events[:-1]]
    assert [one["text"] for one in chunks] == ["one ", "two ", "three", ""]
    assert [one["seq"] for one in chunks] == [0, 1, 2, 3]
    assert [one["final"] for one in chunks] == [False, False, False, True]
    last, told = events[-1]
    assert (last, told["text"]) == ("reply", "one two three")


def test_h2_what_fails_before_the_first_piece_has_its_status_also_when_a_stream_was_asked_for(
    smith: Run,
) -> None:
    answer = smith.client.post("/message", json={"text": "hang: x", "timeout": 0.2}, headers=STREAM)
    assert answer.status_code == 504 and "error" in answer.json()


def test_h2_rooms_are_worked_at_once_and_each_answer_is_its_own(smith: Run) -> None:
    def ask(n: int) -> tuple[int, str]:
        return n, smith.say(f"echo: {n}", room=f"r{n % 4}").json()["text"]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(ask, range(40)))
    assert answers == [(n, f"echo: {n}") for n in range(40)]


def test_h2_an_action_that_fails_is_an_answer_that_says_so_and_a_refusal_has_its_own_status(
    smith: Run,
) -> None:
    broken = smith.say("break: x")
    assert broken.status_code == 200 and broken.json()["data"]["success"] is False
    assert "broken on purpose" in broken.json()["text"]
    refused = smith.say("forbidden")
    assert refused.status_code == 422 and refused.json()["reason"] == "rejected"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[1]", 400, "must be a JSON object"),
        (b"null", 400, "must be a JSON object"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b'{"txt": "x"}', 400, "did you mean text?"),
        (b'{"text": 5}', 400, "`$.text`"),
        (b'{"content": "x"}', 400, "content must be an object"),
        (b'{"content": {"text": "x", "from_agent": "boss"}}', 400, "a mark that only the runtime makes"),
        (b'{"content": {"text": "x"}, "roomID": "r"}', 400, "no field 'roomID'"),
        (b'{"text": "  "}', 400, "says nothing"),
        (b'{"text": "x", "data": []}', 400, "`$.data`"),
        (b'{"text": "x", "data": {"n": 99999999999999999999999}}', 400, "no message can carry"),
        (b'{"text": "x", "room": "a\\u0000b"}', 400, "`$.room`"),
        (b'{"text": "x", "room": ""}', 400, "`$.room`"),
        (b'{"text": "x", "sender": "a b"}', 400, "`$.sender`"),
        (b'{"text": "x", "sender": "coordinator"}', 400, "a name that is kept"),
        (b'{"text": "x", "timeout": 0}', 400, "`$.timeout`"),
        (b'{"text": "x", "timeout": 1e9}', 400, "`$.timeout`"),
        (b'{"text": "' + b"x" * 1_020_000 + b'"}', 413, "put it in a file"),
        (b'{"text": "' + b"x" * 1_200_000 + b'"}', 413, "1,048,576 bytes"),
    ],
)  # fmt: skip
def test_h2_a_bad_body_is_one_sentence_and_costs_nothing(
    smith: Run, body: bytes, status: int, says: str
) -> None:
    answer = smith.client.post("/message", content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert says in answer.json()["error"], answer.text
    assert "Traceback" not in answer.text


def test_h2_a_body_that_announces_more_than_anybody_reads_is_refused_unread(smith: Run) -> None:
    with socket.create_connection(("127.0.0.1", httpx.URL(smith.url).port or 0), 10) as client:
        client.sendall(
            b"POST /message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999999\r\n\r\n"
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_h2_wrong_addresses_methods_kinds_and_hosts_are_told_apart(smith: Run) -> None:
    client = smith.client
    assert client.get("/helth").json()["error"].endswith("did you mean /health?")
    wrong = client.get("/message")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert client.head("/ready").status_code == 200
    plain = client.post("/message", content=b'{"text": "x"}', headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415, "what any web page may send must not reach the agent"
    foreign = client.post("/message", json={"text": "x"}, headers={"Host": "evil.example"})
    assert foreign.status_code == 403, "a name that was made to point here is not us"


# ── how it is ─────────────────────────────────────────────────────────────────────────────────────


def test_g10_health_has_the_sources_shape_and_ready_and_live_are_apart(smith: Run) -> None:
    answer = smith.client.get("/health")
    told = answer.json()
    assert answer.status_code == 200
    assert set(told) == {"status", "uptime", "metrics", "services", "version"}
    assert told["status"] == "healthy" and told["services"] == [{"name": "bench", "status": "running"}]
    assert smith.client.get("/ready").json() == {"ready": True, "reasons": []}
    assert smith.client.get("/live").json() == {"live": True, "reasons": []}


def test_g9_metrics_are_pulled_in_prometheus_text(smith: Run) -> None:
    smith.say("echo: x")
    answer = smith.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family for family in text_string_to_metric_families(answer.text)}
    assert found["swarm_agent_up"].samples[0].value == 1
    actions = {one.labels.get("action") for one in found["swarm_action_duration_seconds"].samples}
    assert "ECHO" in actions
    assert found["swarm_inbox_pending"].samples[0].labels == {"agent": "smith"}
    assert found["process_resident_memory_bytes"].samples[0].value < 80 * 2**20, "46 MiB when it was written"


def test_h2_while_it_starts_it_answers_503_and_a_stop_then_ends_it_well(tmp_path: Path) -> None:
    place = workshop(tmp_path)
    (place / "wait").touch()
    with running(tmp_path, place) as run:
        run.until_traced("service started")
        assert run.status("/live") == 200
        refused = run.say("echo: x")
        assert (refused.status_code, refused.json()["reason"]) == (503, "starting")
        assert "retry-after" in refused.headers
        assert (run.status("/ready"), run.status("/health")) == (503, 503)
        run.signal()
        assert run.end() == 0, run.log
        assert "Traceback" not in run.log


def test_h2_with_a_token_only_who_has_it_is_heard(tmp_path: Path) -> None:
    with running(tmp_path, workshop(tmp_path), HTTP_TOKEN=TOKEN) as run:
        run.ready()
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Authorization": "Bearer é"},
        ):
            sent = {name: value.encode("latin-1") for name, value in header.items()}
            answer = run.client.post("/message", json={"text": "echo: x"}, headers=sent)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert run.status("/metrics") == 401
        assert run.client.get("/health").json() == {"status": "healthy"}, "a probe hears no more"
        run.client.headers["Authorization"] = f"Bearer {TOKEN}"
        assert run.say("echo: x").status_code == 200
        assert run.status("/metrics") == 200
        assert "metrics" in run.client.get("/health").json()
        foreign = run.client.post("/message", json={"text": "echo: x"}, headers={"Host": "agent.example"})
        assert foreign.status_code == 200
        run.signal(signal.SIGINT)
        assert run.end() == 0
        assert TOKEN not in run.log


# ── stopping ──────────────────────────────────────────────────────────────────────────────────────


def test_h4_sigterm_finishes_what_is_in_hand_then_plugins_services_and_store_and_ends_with_0(
    tmp_path: Path,
) -> None:
    with running(tmp_path, workshop(tmp_path)) as run, ThreadPoolExecutor(4) as pool:
        run.ready()
        slow = pool.submit(run.say, "slow: x", room="a")
        run.until_traced("slow began")
        queued = pool.submit(run.say, "echo: behind it", room="a")
        run.until(lambda: 'swarm_inbox_pending{agent="smith"} 1' in run.client.get("/metrics").text)
        run.signal()
        run.until(lambda: run.status("/ready") == 503, what="draining")
        late = run.say("echo: late")
        assert (late.status_code, late.json()["reason"]) == (503, "draining")
        assert run.status("/live") == 200, "nobody should kill what drains"
        run.sign("go")
        assert slow.result(10).json()["text"] == "slow is done"
        assert queued.result(10).json()["text"] == "echo: behind it"
        assert run.end() == 0, run.log
    assert run.trace == ["service started", "slow began", "slow ended", "plugin stopped", "service stopped"]
    assert "Traceback" not in run.log


def test_h4_a_second_signal_forces_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with running(tmp_path, workshop(tmp_path)) as run, ThreadPoolExecutor(1) as pool:
        run.ready()
        hanging = pool.submit(run.say, "hang: x")
        run.until_traced("hang began")
        run.signal()
        run.until(lambda: run.status("/ready") == 503, what="draining")
        began = time.monotonic()
        run.signal()
        assert run.end() == 70
        assert time.monotonic() - began < 5
        assert hanging.exception(10) is not None or hanging.result().status_code == 503


def test_h4_a_plugin_that_sticks_at_its_stop_is_ended_by_a_second_signal(tmp_path: Path) -> None:
    place = workshop(tmp_path)
    (place / "stick").touch()
    with running(tmp_path, place) as run:
        run.ready()
        run.signal()
        run.until_traced("sticking")
        run.signal()
        assert run.end(5) == 70


def test_h4_what_does_not_end_by_the_deadline_is_answered_503_and_the_exit_code_says_so(
    tmp_path: Path,
) -> None:
    with running(tmp_path, workshop(tmp_path), "--drain", "0.2") as run, ThreadPoolExecutor(1) as pool:
        run.ready()
        hanging = pool.submit(run.say, "hang: x")
        run.until_traced("hang began")
        run.signal()
        assert hanging.result(10).status_code == 503
        assert run.end() == 70
    assert run.trace[-2:] == ["plugin stopped", "service stopped"]


# ── the store ─────────────────────────────────────────────────────────────────────────────────────


async def test_h7_without_a_database_it_remembers_in_agent_db_where_it_was_started(tmp_path: Path) -> None:
    place = workshop(tmp_path)
    for text in ("echo: first", "echo: second"):
        with running(tmp_path, place) as run:
            run.ready()
            for _ in range(2):  # the same id again leaves nothing behind twice
                said = await asyncio.to_thread(run.say, text, id=text.replace(": ", "-"))
                assert said.json()["text"] == text
            run.signal()
            assert await asyncio.to_thread(run.end) == 0
    store = private_store(tmp_path / "agent.db", "smith", string_to_uuid("Smith"))
    try:
        texts = [one.content.text for one in await store.get_memories(kind="message")]
    finally:
        await store.close()
    assert texts == ["echo: first", "echo: first", "echo: second", "echo: second"]


async def test_h7_edge_is_an_option_with_its_own_bounds_and_a_file_for_a_store(tmp_path: Path) -> None:
    place = workshop(tmp_path)
    file = tmp_path / "edge.db"
    with running(tmp_path, place, "--edge", DATABASE_URL=f"sqlite:{file}", maxMemorySize="4") as run:
        await asyncio.to_thread(run.ready)
        for number in range(5):
            assert (await asyncio.to_thread(run.say, f"echo: {number}")).status_code == 200
        run.signal()
        assert await asyncio.to_thread(run.end) == 0
    store = private_store(file, "smith", string_to_uuid("Smith"))
    try:
        assert await store.count_memories() == 4
    finally:
        await store.close()


def test_h1_database_url_names_a_postgres_in_which_it_has_a_role_of_its_own(
    tmp_path: Path, postgres_url: str
) -> None:
    place = workshop(tmp_path, name=f"Smith {tmp_path.name}")
    with running(tmp_path, place, DATABASE_URL=postgres_url) as run:
        run.ready()
        assert run.say("echo: first", room="r").status_code == 200
        with running(tmp_path, place, DATABASE_URL=postgres_url) as second:
            second.ready()
            assert second.say("echo: second", room="r").status_code == 200, (
                "a second process takes nothing away"
            )
            second.signal()
            assert second.end() == 0
        assert run.say("echo: third", room="r").status_code == 200
        assert run.status("/ready") == 200
        run.signal()
        assert run.end() == 0
    assert not (tmp_path / "agent.db").exists()
    assert httpx.URL(postgres_url).password not in run.log or not httpx.URL(postgres_url).password


async def test_g10_a_database_that_is_away_makes_it_unready_and_not_dead_and_loses_no_message(
    tmp_path: Path, postgres_url: str
) -> None:
    place = workshop(tmp_path, name=f"Smith {tmp_path.name}")
    async with Proxy(postgres_url) as line, asyncio.TaskGroup() as group:
        with running(tmp_path, place, DATABASE_URL=line.url(postgres_url)) as run:
            await asyncio.to_thread(run.ready)
            slow = group.create_task(asyncio.to_thread(run.say, "slow: x"))
            await asyncio.to_thread(run.until_traced, "slow began")
            line.refuse = True
            line.hang_up()
            await asyncio.to_thread(run.until, lambda: run.status("/ready") == 503, what="unready")
            health = await asyncio.to_thread(run.client.get, "/health")
            assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
            assert await asyncio.to_thread(run.status, "/live") == 200
            run.sign("go")
            await asyncio.to_thread(run.until_traced, "slow ended")
            line.refuse = False
            assert (await slow).json()["text"] == "slow is done", "its commit waited"
            assert await asyncio.to_thread(run.status, "/ready") == 200
            run.signal()
            assert await asyncio.to_thread(run.end) == 0


async def test_h1_a_database_that_does_not_let_its_user_migrate_says_what_it_must_be_able_to(
    postgres_url: str,
) -> None:
    admin = await asyncpg.connect(postgres_url)
    poor = f"poor_{new_id()[-8:]}"
    await admin.execute(f"create role {poor} login password 'hidden'")
    await admin.close()
    url = str(httpx.URL(postgres_url).copy_with(username=poor, password="hidden"))
    with pytest.raises(StoreError, match="must be able to create a schema and roles") as caught:
        await store_of(url, "alone_ada", "ada", Character(name="Ada", bio="x"))
    assert "hidden" not in str(caught.value)


# ── what a user can do wrong ──────────────────────────────────────────────────────────────────────


def test_h1_what_keeps_it_from_starting_is_one_sentence_with_an_exit_code_and_no_secret(
    tmp_path: Path,
) -> None:
    place = workshop(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = _ended(tmp_path, str(place), "--port", port)
    assert f"port {port} cannot be listened on" in _sentence(done, 1)
    away = f"postgresql://u:hidden@127.0.0.1:{free_port()}/d"
    done = _ended(tmp_path, str(place), "--port", "0", DATABASE_URL=away)
    assert "hidden" not in _sentence(done, 1)
    done = _ended(tmp_path, str(place / "charakter.json"), "--port", "0", "--json")
    assert "character.json" in _sentence(done, 1)
    assert json.loads(done.stdout)["error"]["exit_code"] == 1


def _ended(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "run", *words],
        cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _sentence(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert done.returncode == code and "Traceback" not in done.stderr, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("swarm: ")
    return last
