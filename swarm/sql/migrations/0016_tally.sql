-- How many deliveries there are, without counting what was ever handled: a mark that the cleaner moves behind the
-- youngest, and what stands before it. Whoever looks counts what is open, what ended badly and what is younger than
-- the mark; the rest is handled. So a look costs what happened since the last round, however long the ledger is.
create table tally (
    one  boolean primary key default true check (one),
    upto bigint not null default 0,  -- of deliveries' seq
    rows bigint not null default 0   -- that have no higher one, and are not forgotten
);
insert into tally default values;
alter table tally enable row level security;
alter table tally force row level security;
create policy owner on tally to current_user using (true) with check (true);

-- Move the mark over so many rows, up to those of the last minute: a transaction that drew its numbers earlier than
-- that and commits later would not be counted. `next` is empty when it has arrived.
create function tally_deliveries(p_epoch bigint, p_most integer, out next text) language plpgsql
as $$
declare
    v_from bigint := (select upto from tally);
    v_count integer;
    v_upto bigint;
begin
    select count(*), max(seq) into v_count, v_upto
    from (select d.seq, d.accepted_at from deliveries d where d.seq > v_from order by d.seq limit p_most) d
    where d.accepted_at < now_ms() - 60000;
    next := case when v_count = p_most then v_upto::text else '' end;
    if v_count > 0 then
        update tally
        set upto = v_upto,
            rows = rows + (select count(*) from deliveries d where d.seq > v_from and d.seq <= v_upto);
        perform hold_lease(p_epoch);
    end if;
end $$;

create function untally(p_count bigint) returns void language sql
as $$ update tally set rows = rows - p_count where p_count > 0 $$;

-- The ledger's counts by name; a state in which nothing is has no row.
create function ledger_stats() returns table (name text, count bigint) language plpgsql stable
as $$
declare
    v_upto bigint;
    v_handled bigint;
    v_accepted bigint := (select count(*) from deliveries where state = 'accepted');
    v_open bigint := (select count(*) from deliveries where state in ('accepted', 'dispatched'));
    v_expired bigint := (select count(*) from deliveries where state = 'expired');
    v_dead bigint := (select count(*) from deliveries where state = 'dead');
begin
    select t.upto, t.rows into v_upto, v_handled from tally t;
    v_handled := v_handled - v_open - v_expired - v_dead + (select count(*) from deliveries where seq > v_upto);
    return query
        select * from (values ('deliveries.accepted', v_accepted), ('deliveries.dispatched', v_open - v_accepted),
                              ('deliveries.handled', v_handled), ('deliveries.expired', v_expired),
                              ('deliveries.dead', v_dead)) v (name, count)
        where v.count > 0
        union all
        select 'tasks.' || t.state, count(*) from tasks t group by t.state
        union all
        select 'pruned.' || p.what, p.count from pruned p
        union all
        select 'refused.' || s.kind, sum(s.refused)::bigint from storms s group by s.kind;
end $$;

revoke all on all functions in schema :"schema" from public;
