"""What the database itself saw: triggers of the battery on the ledger's tables, and its rows at the end.

A trigger writes in the transaction that it watches. So what was rolled back is not there, and what was committed is,
whoever was killed a moment later.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from swarm.ledger import LeaseLost
from swarm.stores.postgres import PostgresLedger, schema_name
from tests.faults.battery.evidence import Evidence, Row

TRIGGERS: Final = """
create table {s}.battery_audit (
    n bigint generated always as identity primary key,
    what text not null, id text not null, old text, new text, epoch bigint, leased boolean,
    writer bigint default nullif(current_setting('battery.epoch', true), '')::bigint
);
alter function {s}.check_lease(bigint) rename to battery_check_lease;
alter function {s}.hold_lease(bigint) rename to battery_hold_lease;
create function {s}.check_lease(p_epoch bigint) returns void language plpgsql as $$
begin
    perform set_config('battery.epoch', p_epoch::text, true);
    perform battery_check_lease(p_epoch);
end $$;
create function {s}.hold_lease(p_epoch bigint) returns void language plpgsql as $$
begin
    perform set_config('battery.epoch', p_epoch::text, true);
    perform battery_hold_lease(p_epoch);
end $$;
create function {s}.battery_watch() returns trigger language plpgsql security definer
set search_path = {s}, pg_temp as $$
declare
    v_epoch bigint;
    v_leased boolean;
begin
    if tg_table_name = 'lease' then
        if old.epoch is distinct from new.epoch or old.holder is distinct from new.holder then
            insert into battery_audit (what, id, old, new, epoch, leased)
            values ('lease', '', old.holder, new.holder, new.epoch, true);
        end if;
        return null;
    end if;
    select l.epoch, l.holder is not null and l.expires_at > now_ms() - 1000 into v_epoch, v_leased from lease l;
    if tg_op = 'INSERT' then  -- dead from the start: an inbox was full, or the address named nobody
        insert into battery_audit (what, id, old, new, epoch, leased)
        values ('delivery', new.seq::text, null, new.state, v_epoch, v_leased);
    elsif tg_table_name = 'tasks' then
        insert into battery_audit (what, id, old, new, epoch, leased)
        values ('task', new.id::text, old.state, new.state, v_epoch, v_leased);
    else
        insert into battery_audit (what, id, old, new, epoch, leased)
        values ('delivery', new.seq::text, old.state, new.state, v_epoch, v_leased);
    end if;
    return null;
end $$;
create trigger battery_lease after update on {s}.lease for each row execute function {s}.battery_watch();
create trigger battery_tasks after update of state on {s}.tasks for each row execute function {s}.battery_watch();
create trigger battery_deliveries after update of state on {s}.deliveries
    for each row execute function {s}.battery_watch();
create trigger battery_born after insert on {s}.deliveries
    for each row when (new.state in ('dead', 'expired')) execute function {s}.battery_watch();
"""

ROWS: Final = {
    "deliveries": """
        select d.seq, d.message::text, s.name as sender, r.name as recipient, m.address, d.room, d.kind, d.state,
               d.reason, d.attempts, d.crashes, m.hops, m.origin::text, coalesce(m.content ->> 'text', '') as text,
               (m.content -> 'data' ->> 'n')::bigint as n
        from {s}.deliveries d join {s}.messages m on m.id = d.message and m.sender = d.sender
        join {s}.agents s on s.id = d.sender left join {s}.agents r on r.id = d.recipient order by d.seq""",
    "tasks": """
        select t.id::text, p.name as parent, c.name as child, t.state, t.attempts, t.max_attempts, t.failures,
               t.result is not null as result
        from {s}.tasks t join {s}.agents p on p.id = t.parent join {s}.agents c on c.id = t.child
        order by t.created_at""",
    "agents": """
        select a.name, p.name as parent, a.reserved, a.create_children, a.control_children,
               a.access_parent_memory, a.announce
        from {s}.agents a left join {s}.agents p on p.id = a.parent where not a.reserved order by a.name""",
    "effects": """
        select a.name as agent, m.content -> 'data' ->> 'message' as message,
               m.content -> 'data' ->> 'sender' as sender,
               m.content -> 'data' ->> 'room' as room, (m.content -> 'data' ->> 'n')::bigint as n
        from {s}.memories m join {s}.agents a on a.id = m.agent where m.kind = 'effect' order by m.seq""",
    "audit": "select what, id, old, new, epoch, leased, writer from {s}.battery_audit order by n",
}

ACCOUNT: Final = """
    select count(*) as accepted, count(*) filter (where state = 'handled') as handled,
           count(*) filter (where state = 'dead') as dead, count(*) filter (where state = 'expired') as expired,
           count(*) filter (where state in ('accepted', 'dispatched')) as pending
    from {s}.deliveries"""


class Audit:
    """`url` is the owner's of the schema, past the proxies: the truth is not under test by a bad line."""

    def __init__(self, url: str, swarm: str) -> None:
        self._url = url
        self._swarm = swarm
        self._schema = f'"{schema_name(swarm)}"'

    async def watch(self) -> None:
        await self._run(TRIGGERS)

    async def mutate(self, statements: str) -> None:
        """Switch a safeguard off: see mutants.py."""
        await self._run(statements)

    async def deposed_writes(self, epoch: int) -> bool:
        """Whether a coordinator whose epoch is over can still write."""
        ledger = PostgresLedger(self._url, self._swarm)
        ledger.epoch = epoch
        try:
            await ledger.release([], crashed=False)
        except LeaseLost:
            return False
        finally:
            await ledger.close()
        return True

    async def epoch(self) -> int:
        [row] = await self._fetch("select epoch from {s}.lease")
        return int(row["epoch"])

    async def account(self) -> Row:
        [row] = await self._fetch(ACCOUNT)
        return row

    async def open_tasks(self) -> int:
        [row] = await self._fetch(
            "select count(*) as n from {s}.tasks where state in ('submitted', 'working', 'input-required')"
        )
        return int(row["n"])

    async def collect(self, events: list[Row]) -> Evidence:
        rows = {name: await self._fetch(query) for name, query in ROWS.items()}
        for row in rows["audit"]:
            if row["what"] == "delivery":
                row["id"] = int(row["id"])
        return Evidence(events=events, **rows)

    async def search(self, secret: str) -> list[str]:
        """The tables that hold this text anywhere."""
        tables = await self._fetch(
            "select table_name as name from information_schema.tables where table_schema = "
            f"'{self._schema[1:-1]}' and table_type = 'BASE TABLE'"
        )
        found = []
        for table in tables:
            query = f'select count(*) as n from {{s}}."{table["name"]}" t where t::text like $1'
            [row] = await self._fetch(query, f"%{secret}%")
            if row["n"]:
                found.append(table["name"])
        return found

    async def readable(self, url: str) -> list[str]:
        """Whose memories one can see with this login."""
        connection: Any = await asyncpg.connect(url)
        try:
            rows = await connection.fetch(
                f"select distinct a.name from {self._schema}.memories m join {self._schema}.agents a on a.id = m.agent"
            )
        finally:
            await connection.close()
        return sorted(row["name"] for row in rows)

    async def _run(self, statements: str) -> None:
        connection: Any = await asyncpg.connect(self._url)
        try:
            await connection.execute(f"set search_path = {self._schema}, public")
            await connection.execute(statements.format(s=self._schema))
        finally:
            await connection.close()

    async def _fetch(self, query: str, *arguments: Any) -> list[Row]:
        connection: Any = await asyncpg.connect(self._url)
        try:
            return [dict(row) for row in await connection.fetch(query.format(s=self._schema), *arguments)]
        finally:
            await connection.close()
