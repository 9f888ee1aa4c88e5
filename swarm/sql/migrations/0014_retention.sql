-- Forgetting what is over: the coordinator's cleaner calls `prune`, a small batch at a time. swarm/retention.py
-- says what the ages mean. No index is kept for this on the way of a message: rows are visited in the order in
-- which they were made, from where the last batch ended.

-- What went, by what it was: accepted = what is there + what was pruned, so that the account stays whole.
create table pruned (
    what  text primary key,
    count bigint not null
);
alter table pruned enable row level security;
alter table pruned force row level security;
create policy owner on pruned to current_user using (true) with check (true);

-- Messages to a group that had nobody in it have no delivery by which they would be found.
create index messages_to_groups on messages (accepted_at)
    where kind = 'announce' or address in ('all', 'children') or address like 'group:%';

-- The moment before which such a delivery must have ended to be forgotten; null: never.
create function moment_for(p_delivery deliveries, p_before jsonb) returns bigint language sql immutable
as $$
    select (p_before ->> case
        when p_delivery.state in ('expired', 'dead') then 'dead'
        when p_delivery.kind = 'notice' then 'notices'
        when p_delivery.kind = 'announce' then 'announcements'
        else 'messages' end)::bigint
$$;

create function is_forgettable(p_delivery deliveries, p_before jsonb) returns boolean language sql immutable
as $$
    select coalesce(p_delivery.state not in ('accepted', 'dispatched')
        and coalesce(p_delivery.handled_at, p_delivery.ended_at) < moment_for(p_delivery, p_before), false)
$$;

-- Whether these two have something open in this room that was accepted before then. What is younger does not
-- count, or two that always talk would never be cleaned up after.
create function is_unfinished(p_one uuid, p_other uuid, p_room text, p_before bigint) returns boolean
language sql stable
as $$
    select exists (select from deliveries e
                   where e.recipient = p_one and e.sender = p_other and e.room = p_room
                     and e.state in ('accepted', 'dispatched') and e.accepted_at < p_before)
        or exists (select from deliveries e
                   where e.recipient = p_other and e.sender = p_one and e.room = p_room
                     and e.state in ('accepted', 'dispatched') and e.accepted_at < p_before)
$$;

-- Deliveries by number. A message goes with all of them when each is old enough, its conversation is over, and
-- no task has its room.
create function prune_messages(p_before jsonb, p_after text, p_most integer, out next text, out gone jsonb)
language plpgsql
as $$
declare
    v_youngest bigint := greatest((p_before ->> 'messages')::bigint, (p_before ->> 'announcements')::bigint,
                                  (p_before ->> 'notices')::bigint, (p_before ->> 'dead')::bigint);
    v_seen integer;
    v_last bigint;
    v_last_at bigint;
    v_tallied bigint;
begin
    next := '';
    gone := '{}';
    if v_youngest is null then
        return;
    end if;
    with seen as materialized (
        select d as delivery from deliveries d where d.seq > coalesce(nullif(p_after, '')::bigint, 0)
        order by d.seq limit p_most
    ), old as materialized (
        select distinct (s.delivery).message, (s.delivery).sender from seen s where is_forgettable(s.delivery, p_before)
    ), chosen as materialized (
        select m.id, m.sender from old o join messages m on m.id = o.message and m.sender = o.sender
        where not exists (
                select from deliveries d
                where d.message = m.id and d.sender = m.sender
                  and (not is_forgettable(d, p_before)
                       or is_unfinished(d.recipient, d.sender, d.room, moment_for(d, p_before))
                       -- Its sender has not read yet that it ended badly.
                       or d.state <> 'handled' and exists (
                           select from deliveries n
                           where n.message = derived_uuid('notice:' || d.seq) and n.state in ('accepted', 'dispatched'))))
          and not exists (select from tasks t where t.id = task_of(m.room))
        for update of m skip locked
    ), counted as (
        select d.state, count(*) as n, count(*) filter (where d.seq <= (select upto from tally)) as tallied
        from chosen c join deliveries d on d.message = c.id and d.sender = c.sender group by d.state
    ), deleted as (
        delete from messages m using chosen c where m.id = c.id and m.sender = c.sender
    )
    select (select count(*) from seen), (select max((s.delivery).seq) from seen s),
           (select max((s.delivery).accepted_at) from seen s),
           (select coalesce(jsonb_object_agg('deliveries.' || state, n), '{}') from counted),
           (select sum(tallied) from counted)
    into v_seen, v_last, v_last_at, gone, v_tallied;
    perform untally(v_tallied);
    if v_seen = p_most and v_last_at < v_youngest then
        next := v_last::text;
    end if;
end $$;

create function prune_unheard(p_before jsonb, p_most integer, out next text, out gone jsonb) language plpgsql
as $$
declare
    v_count integer;
begin
    with deleted as (
        delete from messages m using (
            select a.id, a.sender from messages a
            where (a.kind = 'announce' or a.address in ('all', 'children') or a.address like 'group:%')
              and a.accepted_at < (p_before ->> 'announcements')::bigint
              and not exists (select from deliveries d where d.message = a.id and d.sender = a.sender)
            order by a.accepted_at limit p_most for update skip locked) u
        where m.id = u.id and m.sender = u.sender
        returning 1
    )
    select count(*) into v_count from deleted;
    next := case when v_count = p_most then '1' else '' end;
    gone := case when v_count > 0 then jsonb_build_object('unheard', v_count) else '{}' end;
end $$;

-- Tasks from the oldest root on. A tree goes when every task in it has ended long enough ago and every message of
-- it has been dealt with: a result that waits for a parent which is away keeps all of it.
create function prune_tasks(p_before jsonb, p_after text, p_most integer, out next text, out gone jsonb)
language plpgsql
as $$
declare
    v_before bigint := (p_before ->> 'tasks')::bigint;
    v_root record;
    v_ids uuid[];
    v_over boolean;
    v_seen integer := 0;
    v_tree jsonb;
    v_tallied bigint;
begin
    next := '';
    gone := '{}';
    for v_root in
        select t.id, t.parent_task, t.created_at from tasks t
        where (t.created_at, t.id) > (coalesce(nullif(split_part(p_after, '/', 1), '')::bigint, 0),
                                      coalesce(nullif(split_part(p_after, '/', 2), '')::uuid, '00000000-0000-0000-0000-000000000000'))
          and t.created_at < v_before
        order by t.created_at, t.id limit p_most
    loop
        v_seen := v_seen + 1;
        next := v_root.created_at || '/' || v_root.id;
        continue when v_root.parent_task is not null;
        with recursive tree as (
            select t.id, t.state, t.updated_at, t.parent, t.child from tasks t where t.id = v_root.id
            union all
            select t.id, t.state, t.updated_at, t.parent, t.child from tasks t join tree on t.parent_task = tree.id
        )
        select array_agg(id), bool_and(
            state not in ('submitted', 'working', 'input-required') and updated_at < v_before
            and not is_unfinished(parent, child, 'task:' || id, v_before)
            and not exists (select from deliveries d
                            where d.message in (select messages_of_task(tree.id))
                              and d.state in ('accepted', 'dispatched')))
        into v_ids, v_over from tree;
        continue when not v_over;
        with said as materialized (
            select m.id, m.sender
            from unnest(v_ids) as t (id) cross join messages_of_task(t.id) as own join messages m on m.id = own
            where m.room = 'task:' || t.id
        ), counted as (
            select 'deliveries.' || d.state as what, d.seq
            from said s join deliveries d on d.message = s.id and d.sender = s.sender
        ), unsaid as (
            delete from messages m using said s where m.id = s.id and m.sender = s.sender
        ), deleted as (
            delete from tasks where id = any (v_ids) returning state
        )
        select jsonb_object_agg(g.what, g.n + coalesce((gone ->> g.what)::bigint, 0)),
               (select count(*) from counted where seq <= (select upto from tally))
        into v_tree, v_tallied
        from (select what, count(*) as n
              from (select what from counted union all select 'tasks.' || state from deleted) a group by what) g;
        gone := gone || v_tree;
        perform untally(v_tallied);
    end loop;
    if v_seen < p_most then
        next := '';
    end if;
end $$;

-- Agent by agent, the oldest first; an agent's own age goes before that of all.
create function prune_memories(p_before jsonb, p_after text, p_most integer, out next text, out gone jsonb)
language plpgsql
as $$
declare
    v_agent record;
    v_count integer;
begin
    next := '';
    gone := '{}';
    for v_agent in
        select a.id, case when p_before -> 'memories_of' ? a.name then p_before -> 'memories_of' ->> a.name
                          else p_before ->> 'memories' end::bigint as before
        from agents a where a.id > coalesce(nullif(p_after, '')::uuid, '00000000-0000-0000-0000-000000000000')
        order by a.id
    loop
        continue when v_agent.before is null;
        delete from memories m using (
            select o.agent, o.id from memories o where o.agent = v_agent.id and o.created_at < v_agent.before
            order by o.created_at, o.seq limit p_most) o
        where m.agent = o.agent and m.id = o.id;
        get diagnostics v_count = row_count;
        if v_count > 0 then
            gone := jsonb_build_object('memories', v_count);
            if v_count < p_most then
                next := v_agent.id::text;
            else
                next := p_after;  -- this one again; at the first agent that is where a round begins
                if next = '' then
                    next := '00000000-0000-0000-0000-000000000000';
                end if;
            end if;
            return;
        end if;
    end loop;
end $$;

-- One batch of one part, in the transaction of the lease. `next` is empty when this part is through.
create function prune(p_epoch bigint, p_part text, p_ages jsonb, p_after text, p_most integer, out next text, out gone jsonb)
language plpgsql
as $$
declare
    v_now bigint := now_ms();
    v_before jsonb;
begin
    perform check_lease(p_epoch);
    select coalesce(jsonb_object_agg(key, v_now - value::bigint), '{}')
        || jsonb_build_object('memories_of', (
               select coalesce(jsonb_object_agg(o.key, v_now - nullif(o.value, '0')::bigint), '{}')
               from jsonb_each_text(p_ages -> 'memories_of') o))
    into v_before from jsonb_each_text(p_ages) where key <> 'memories_of';
    gone := '{}';
    case p_part
        when 'tally' then next := tally_deliveries(p_epoch, p_most);
        when 'messages' then select * into next, gone from prune_messages(v_before, p_after, p_most);
        when 'unheard' then select * into next, gone from prune_unheard(v_before, p_most);
        when 'tasks' then select * into next, gone from prune_tasks(v_before, p_after, p_most);
        when 'memories' then select * into next, gone from prune_memories(v_before, p_after, p_most);
    end case;
    if gone <> '{}' then
        insert into pruned as p (what, count) select key, value::bigint from jsonb_each_text(gone)
        on conflict (what) do update set count = p.count + excluded.count;
        perform hold_lease(p_epoch);
    end if;
end $$;

revoke all on all functions in schema :"schema" from public;
