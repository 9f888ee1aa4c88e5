"""An agent that has its own database password and none of our code: what the database refuses it.

Every test speaks SQL on a raw connection with an agent's role. `writer` is a child of `boss` without
access to its memories; `reader` has it.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from swarm.ids import new_id, string_to_uuid
from swarm.records import Turn
from swarm.stores.postgres import role_name
from tests.contract.store_fixtures import (
    FAMILY,
    PostgresWorld,
    memory,
    message,
    postgres_server,
    postgres_url,
    postgres_world,
    task,
)

__all__ = ["postgres_server", "postgres_url", "postgres_world"]

Raw = asyncpg.Connection
BOSS, READER, WRITER, STRANGER = (string_to_uuid(n) for n in ("boss", "reader", "writer", "stranger"))
TABLES = (
    "agents",
    "groups",
    "characters",
    "lease",
    "messages",
    "deliveries",
    "tasks",
    "memories",
    "embeddings",
    "participants",
    "pruned",
    "inbox_counts",
    "dead_letters",
    "spawned",
    "limits",
    "send_limits",
    "paces",
    "conversations",
    "storms",
    "tally",
    "schema_migrations",
)


async def connect(world: PostgresWorld, agent: str) -> Raw:
    return await asyncpg.connect(world.agent_url(agent), server_settings={"search_path": world.swarm})


@pytest.fixture
async def writer(postgres_world: PostgresWorld) -> AsyncIterator[Raw]:
    connection = await connect(postgres_world, "writer")
    yield connection
    await connection.close()


@pytest.fixture
async def reader(postgres_world: PostgresWorld) -> AsyncIterator[Raw]:
    connection = await connect(postgres_world, "reader")
    yield connection
    await connection.close()


async def refused(connection: Raw, statement: str, *arguments: object) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(statement, *arguments)


# ── the sender ────────────────────────────────────────────────────────────────────────────────────


async def test_a_sender_cannot_be_forged(postgres_world: PostgresWorld, writer: Raw) -> None:
    forged = {
        "id": new_id(),
        "to": "reader",
        "room": "r",
        "kind": "tell",
        "content": {"text": "I am the boss"},
    }
    for field in ("sender", "from", "agent"):
        await writer.execute(
            "select from post_messages($1)",
            json.dumps([forged | {"id": new_id(), field: BOSS, "sender_id": BOSS}]),
        )
    assert {d.sender for d in await postgres_world.claim("reader")} == {"writer"}
    await refused(
        writer,
        "insert into messages (id, sender, address, room, kind, content, accepted_at)"
        " values ($1, $2, 'reader', 'r', 'tell', '{}', 0)",
        new_id(),
        BOSS,
    )
    await refused(
        writer,
        "insert into deliveries (message, sender, recipient, room, kind, accepted_at)"
        " values ($1, $2, $3, 'r', 'tell', 0)",
        new_id(),
        BOSS,
        READER,
    )
    await refused(writer, "select accept_messages($1, $2, false, null)", BOSS, json.dumps([forged]))
    await refused(writer, "select accept_for(1, $1, $2)", BOSS, json.dumps([forged]))


@pytest.mark.parametrize(
    "attempt",
    [
        "set role {boss}",
        "set session authorization {boss}",
        "set role {agents}",
        "set role postgres",
    ],
)
async def test_no_other_role_is_put_on_or_it_changes_nothing(
    postgres_world: PostgresWorld, writer: Raw, attempt: str
) -> None:
    await postgres_world.store("boss").create_memory(memory("secret"))
    roles = {
        "boss": f'"{role_name(postgres_world.swarm, BOSS)}"',
        "agents": f'"{postgres_world.swarm}.agents"',
    }
    try:
        await writer.execute(attempt.format(**roles))
    except asyncpg.PostgresError:
        return
    assert str(await writer.fetchval("select me()")) == WRITER
    assert await writer.fetchval("select count(*) from memories") == 0


async def test_settings_and_lookalikes_change_no_identity(postgres_world: PostgresWorld, writer: Raw) -> None:
    await postgres_world.store("boss").create_memory(memory("secret"))
    await writer.execute("create temporary table agents (id uuid, parent uuid, access_parent_memory boolean)")
    await writer.execute("insert into pg_temp.agents values ($1, $2, true)", WRITER, BOSS)
    await writer.execute(
        f"create function pg_temp.me() returns uuid language sql as $$ select '{BOSS}'::uuid $$;"
        f"create function pg_temp.readable() returns uuid[] language sql as $$ select array['{BOSS}'::uuid] $$"
    )
    schema = postgres_world.swarm
    await writer.execute(f"set search_path = pg_temp, {schema}")
    for setting in ("swarm.agent", "app.agent_id", "request.jwt.claim.sub"):
        await writer.execute(f"select set_config('{setting}', '{BOSS}', false)")
    assert await writer.fetchval(f"select count(*) from {schema}.memories") == 0
    assert str(await writer.fetchval(f"select {schema}.me()")) == WRITER
    sent = {"id": new_id(), "to": "reader", "room": "r", "kind": "tell", "content": {}}
    await writer.execute(f"select from {schema}.post_messages($1)", json.dumps([sent]))
    assert [d.sender for d in await postgres_world.claim("reader")] == ["writer"]


@pytest.mark.parametrize("kind", ["task", "result", "notice", "anything"])
async def test_the_ledgers_own_kinds_cannot_be_sent(
    postgres_world: PostgresWorld, writer: Raw, kind: str
) -> None:
    """A forged result would be believed; a forged task would need no authority."""
    forged = [
        {"id": new_id(), "to": "boss", "room": "r", "kind": kind, "content": {"data": {"task": new_id()}}}
    ]
    for statement, argument in (
        ("select from post_messages($1)", forged),
        ("select from commit_turn($1)", {"outgoing": forged}),
    ):
        with pytest.raises(asyncpg.PostgresError):
            await writer.execute(statement, json.dumps(argument))
    assert await postgres_world.ledger.waiting() == {}


# ── others' mail, memories, tasks ─────────────────────────────────────────────────────────────────


async def test_others_mail_is_not_seen(postgres_world: PostgresWorld, writer: Raw, reader: Raw) -> None:
    sent = message("reader", "between us")
    await postgres_world.store("boss").post([sent, message("writer", "for the writer")])
    assert await writer.fetchval("select count(*) from messages") == 1
    assert await writer.fetchval("select count(*) from deliveries") == 1
    assert await writer.fetchrow("select * from messages where id = $1", sent.id) is None
    assert await writer.fetchrow("select * from deliveries where recipient = $1", READER) is None
    assert await writer.fetchval("select count(*) from messages where content::text like '%between%'") == 0
    assert (
        await reader.fetchval("select content->>'text' from messages where id = $1", sent.id) == "between us"
    )


async def test_others_memories_are_not_seen_in_reads_searches_or_counts(
    postgres_world: PostgresWorld, writer: Raw, reader: Raw
) -> None:
    kept = memory("the secret of the boss")
    await postgres_world.store("boss").create_memory(kept)
    for connection, count in ((writer, 0), (reader, 1)):
        for query in (
            "select count(*) from memories",
            f"select count(*) from memories where id = '{kept.id}'",
            f"select count(*) from memories where agent = '{BOSS}'",
            "select count(*) from memories where content::text like '%secret%'",
            "select count(*) from (select 1 from memories group by agent) g",
            "select count(*) from memories tablesample system (100)",
            "with m as (select * from memories) select count(*) from m",
            f"select count(*) from unnest(array['{BOSS}']::uuid[]) b(id) join memories m on m.agent = b.id",
        ):
            assert await connection.fetchval(query) == count, query
    # A function in a condition must not see rows that the policy hides.
    await writer.execute(
        "create function pg_temp.leak(t text) returns boolean language plpgsql cost 0.0000001 as"
        " $$ begin raise notice '%', t; return true; end $$"
    )
    heard: list[object] = []
    writer.add_log_listener(lambda _, said: heard.append(said))
    await writer.fetch("select * from memories where pg_temp.leak(content::text)")
    assert heard == []


async def test_memories_are_written_under_ones_own_name_only(
    postgres_world: PostgresWorld, writer: Raw
) -> None:
    statement = (
        "insert into memories (id, agent, room, entity, kind, content, created_at)"
        " values ($1, $2, 'r', 'boss', 'message', '{}', 0)"
    )
    await refused(writer, statement, new_id(), BOSS)
    await writer.execute(statement, new_id(), WRITER)
    await refused(writer, "update memories set content = '{}'")
    await refused(writer, "update memories set agent = $1", BOSS)
    await refused(writer, "delete from memories")


async def test_others_tasks_are_not_seen_or_moved(postgres_world: PostgresWorld, writer: Raw) -> None:
    others, own = task("reader"), task("writer")
    await postgres_world.store("boss").delegate([others, own])
    await postgres_world.ledger.claim({"reader": 1, "writer": 1})
    assert [str(r["id"]) for r in await writer.fetch("select id from tasks")] == [own.id]
    assert [str(r["id"]) for r in await writer.fetch("select id from task_list")] == [own.id]
    assert await writer.execute("update tasks set progress = 99") == "UPDATE 1", "its own, and no more"
    for column, value in (
        ("state", "'completed'"),
        ("result", "'{}'"),
        ("attempts", "0"),
        ("parent", f"'{WRITER}'"),
    ):
        await refused(writer, f"update tasks set {column} = {value}")
    await writer.execute(
        "select from commit_turn($1)",
        json.dumps({"attempt": 1, "outcome": {"task": others.id, "state": "completed", "result": {}}}),
    )
    unmoved = await postgres_world.ledger.task(others.id)
    assert unmoved is not None and (unmoved.state, unmoved.progress) == ("working", None)


# ── deliveries ────────────────────────────────────────────────────────────────────────────────────


async def test_anothers_delivery_cannot_be_marked(postgres_world: PostgresWorld, writer: Raw) -> None:
    await postgres_world.store("boss").post([message("reader"), message("writer")])
    got = await postgres_world.ledger.claim({"reader": 1, "writer": 1})
    readers = next(d.delivery for d in got if d.recipient == "reader")
    await refused(writer, "update deliveries set state = 'handled', handled_at = 0 where seq = $1", readers)
    await refused(writer, "update deliveries set state = 'handled', handled_at = 0")
    await refused(writer, "delete from deliveries")
    with pytest.raises(asyncpg.PostgresError, match="not yours"):
        await writer.execute("select from commit_turn($1)", json.dumps({"delivery": readers, "attempt": 1}))
    for call in (
        f"return_delivery(d, false) from deliveries d where seq = {readers}",
        f"end_delivery({readers}, 'dead', 'x')",
        f"release_deliveries(1, array[{readers}], true)",
        f"release_all_but(1, '{READER}', '{{}}')",
        "end_overdue(1)",
        "claim_deliveries(1, array['reader'], array[10])",
        "send_notice(d) from deliveries d",
        f"end_task('{new_id()}', 'canceled', 'x')",
        f"cancel_task('{BOSS}', '{new_id()}', '')",
        f"answer_task('{BOSS}', '{new_id()}', '{{}}')",
        f"retry_task('{BOSS}', '{new_id()}')",
        f"cancel_for(1, '{BOSS}', '{new_id()}', '')",
        f"settle_task('{BOSS}', '{{}}', '', '')",
        "wake_tasks(1)",
    ):
        await refused(writer, f"select {call}")
    assert (await postgres_world.store("reader").commit(Turn(delivery=readers))).status == "committed"


async def test_a_delivery_cannot_be_made_for_a_message_of_ones_own(
    postgres_world: PostgresWorld, writer: Raw
) -> None:
    """Else an agent could write deliveries that are handled from the start, or skip the order gate."""
    sent = message("reader")
    await postgres_world.store("writer").post([sent])
    await refused(
        writer,
        "insert into deliveries (message, sender, recipient, room, kind, accepted_at)"
        " values ($1, $2, $3, 'r', 'tell', 0)",
        sent.id,
        WRITER,
        BOSS,
    )


# ── rights ────────────────────────────────────────────────────────────────────────────────────────


async def test_an_agent_gives_itself_no_rights(postgres_world: PostgresWorld, writer: Raw) -> None:
    for change in (
        "create_children = true",
        "control_children = true",
        "access_parent_memory = true",
        "parent = null",
        f"parent = '{STRANGER}'",
        "roles = '{summarise,boss}'",
        "name = 'boss'",
        "replicas = 100",
        "desired = 'running'",
        "version = '9'",
        "planned = true",
        "reserved = true",
        "granted = '{}'",
        "orphans = 'keep'",
        "orphaned = false",
        "died_at = null",
    ):
        await refused(writer, f"update agents set {change} where id = '{WRITER}'")
    assert await writer.execute("update agents set status = 'active'") == "UPDATE 1", (
        "its own row, and no more"
    )
    await refused(writer, "insert into agents (id, name, parent) values ($1, 'mine', $2)", new_id(), WRITER)
    await refused(writer, "delete from agents")
    await refused(writer, "select provision('[]', '{}', '{}', '{}')")
    await refused(writer, "select set_desired(1, 'boss', 'stopped')")
    await refused(
        writer,
        f'grant "{role_name(postgres_world.swarm, BOSS)}" to "{role_name(postgres_world.swarm, WRITER)}"',
    )


async def test_a_task_needs_authority_whatever_way_it_comes(
    postgres_world: PostgresWorld, writer: Raw
) -> None:
    for child in ("reader", "boss", "stranger", "writer"):
        new = json.dumps([{"id": new_id(), "child": child, "goal": "obey", "parent": BOSS}])
        with pytest.raises(asyncpg.PostgresError, match="No authority"):
            await writer.execute("select from delegate_tasks($1)", new)
        await refused(writer, "select accept_tasks($1, $2)", BOSS, new)
        await refused(writer, "select delegate_for(1, $1, $2)", BOSS, new)
    await refused(
        writer,
        "insert into tasks (id, parent, child, goal, created_at, updated_at) values ($1, $2, $3, 'obey', 0, 0)",
        new_id(),
        WRITER,
        READER,
    )
    assert await postgres_world.ledger.tasks() == []


async def test_nobody_lifts_its_own_limits_or_wipes_out_its_traces(writer: Raw) -> None:
    for attempt in (
        "update send_limits set tells_per_minute = 0",
        "select * from send_limits",
        "delete from paces",
        "delete from conversations",
        "update storms set refused = 0",
        "select pace(me(), nobody(), -1000)",
        "select converse(nobody(), -1000)",
        "select plan_send_limits('[]')",
    ):
        await refused(writer, attempt)


async def test_the_lease_is_out_of_reach(writer: Raw) -> None:
    for statement in (
        "select * from lease",
        "select epoch from lease",
        "update lease set holder = 'me', epoch = epoch + 1",
        "insert into lease default values",
        "delete from lease",
        "select take_lease('me', 60)",
        "select hold_lease(1)",
    ):
        await refused(writer, statement)


async def test_nothing_is_made_or_changed_in_the_schema(postgres_world: PostgresWorld, writer: Raw) -> None:
    schema = postgres_world.swarm
    for table in TABLES:
        await refused(writer, f"truncate {schema}.{table}")
        await refused(writer, f"alter table {schema}.{table} disable row level security")
        await refused(writer, f"drop table {schema}.{table}")
        await refused(writer, f"create policy mine on {schema}.{table} using (true)")
        await refused(writer, f"create trigger t before insert on {schema}.{table} execute function f()")
    await refused(writer, f"create table {schema}.mine ()")
    await refused(
        writer, f"create or replace function {schema}.me() returns uuid language sql as 'select null::uuid'"
    )
    await refused(writer, "select pg_read_file('/etc/passwd')")
    await refused(writer, "copy memories to program 'cat'")
    await refused(writer, "select rolpassword from pg_authid")


async def test_another_swarm_is_closed(postgres_world: PostgresWorld, postgres_url: str, writer: Raw) -> None:
    """An agent of the same name and id in a neighbouring schema is another role."""
    other = PostgresWorld(postgres_url)
    try:
        await other.begin()
        for table in TABLES:
            await refused(writer, f"select * from {other.swarm}.{table}")
        await refused(writer, f"select {other.swarm}.me()")
        await refused(writer, f"select {other.swarm}.post_messages('[]')")
    finally:
        await other.end()


async def test_every_table_has_row_security_even_for_its_owner(postgres_world: PostgresWorld) -> None:
    connection = await asyncpg.connect(postgres_world.url)
    try:
        rows = await connection.fetch(
            "select relname, relrowsecurity, relforcerowsecurity from pg_class"
            " where relnamespace = $1::text::regnamespace and relkind = 'r' and relname <> 'schema_migrations'",
            postgres_world.swarm,
        )
        assert {r["relname"] for r in rows} == set(TABLES) - {"schema_migrations"}
        assert all(r["relrowsecurity"] and r["relforcerowsecurity"] for r in rows)
        # Functions that act with the owner's rights name their search_path and are the agents' doors.
        doors = await connection.fetch(
            "select proname, proconfig::text from pg_proc where pronamespace = $1::text::regnamespace and prosecdef",
            postgres_world.swarm,
        )
        assert {r["proname"] for r in doors} == {
            "readable",
            "my_rooms",
            "commit_turn",
            "post_messages",
            "delegate_tasks",
            "cancel_given",
            "answer_given",
        }
        assert all("search_path" in r["proconfig"] and "pg_temp" in r["proconfig"] for r in doors)
    finally:
        await connection.close()


async def test_embeddings_are_as_private_as_their_memories(
    postgres_world: PostgresWorld, writer: Raw, reader: Raw
) -> None:
    secret = memory("secret")
    boss = postgres_world.store("boss")
    await boss.create_memory(secret)
    await boss.set_embeddings("m", {secret.id: [1.0]})
    assert await writer.fetchval("select count(*) from embeddings") == 0
    assert await reader.fetchval("select count(*) from embeddings") == 1
    forge = "insert into embeddings (agent, memory, model, vector) values ($1, $2, 'm', '{1}')"
    for raw in (writer, reader):
        await refused(raw, forge, BOSS, secret.id)
        await refused(raw, "delete from embeddings")
        assert await raw.execute("update embeddings set vector = '{0}'") == "UPDATE 0"


async def test_nobody_puts_another_into_a_room_or_out_of_it(
    postgres_world: PostgresWorld, writer: Raw
) -> None:
    await postgres_world.store("boss").join("board")
    assert await writer.fetchval("select count(*) from participants") == 0
    await refused(writer, "insert into participants (room, agent) values ('board', $1)", READER)
    assert await writer.execute("delete from participants where room = 'board'") == "DELETE 0"
    await writer.execute("insert into participants (room, agent) values ('board', $1)", WRITER)
    assert await writer.fetchval("select count(*) from participants") == 2
    await refused(writer, "update participants set agent = $1", READER)
    assert (
        await writer.execute("update participants set state = 'muted' where agent = $1", BOSS) == "UPDATE 0"
    )
    assert await writer.execute("delete from participants") == "DELETE 1"


async def test_who_is_no_longer_planned_cannot_log_in(postgres_world: PostgresWorld) -> None:
    await (await connect(postgres_world, "stranger")).close()
    await postgres_world.provision(*(p for p in FAMILY if p.name != "stranger"))
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError):
        await connect(postgres_world, "stranger")


async def test_passwords_are_scram_and_in_no_statement(postgres_world: PostgresWorld) -> None:
    connection = await asyncpg.connect(postgres_world.url)
    try:
        kept = await connection.fetch(
            "select rolpassword from pg_authid where rolname like $1 || '.%' and rolcanlogin",
            postgres_world.swarm,
        )
        assert len(kept) == 4 and all(k[0].startswith("SCRAM-SHA-256$4096:") for k in kept)
    finally:
        await connection.close()
