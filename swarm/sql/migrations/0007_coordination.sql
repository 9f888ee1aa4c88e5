-- What the coordinator does to the ledger. Each function takes the epoch of its lease and holds the lease's
-- row to the end of the transaction, so that what a deposed coordinator writes fails with SW001.

-- For sweeps: one that finds nothing writes nothing, so it checks first and holds only when it changed a row.
create function check_lease(p_epoch bigint) returns void language plpgsql stable
as $$
begin
    if not exists (select from lease where epoch = p_epoch and holder is not null and expires_at > now_ms()) then
        raise exception 'The lease of epoch % is gone', p_epoch using errcode = 'SW001';
    end if;
end $$;

create function hold_lease(p_epoch bigint) returns void language plpgsql
as $$
begin
    perform from lease where epoch = p_epoch and holder is not null and expires_at > now_ms() for share;
    if not found then
        raise exception 'The lease of epoch % is gone', p_epoch using errcode = 'SW001';
    end if;
end $$;

-- Take or renew. A holder whose lease ran out gets a new epoch too: what it began under the old one is void.
create function take_lease(p_holder text, p_seconds double precision) returns bigint language sql
as $$
    update lease
    set epoch = case when holder = p_holder and expires_at > now_ms() then epoch else epoch + 1 end,
        holder = p_holder, expires_at = now_ms() + (p_seconds * 1000)::bigint
    where holder is null or holder = p_holder or expires_at <= now_ms()
    returning epoch
$$;

create function claim_deliveries(p_epoch bigint, p_names text[], p_free integer[])
returns table (delivery bigint, id uuid, sender text, recipient text, room text, kind text, content text,
               attempt integer, crashes integer, in_reply_to text, expires_at bigint, hops integer, origin uuid,
               traceparent text, accepted_at bigint)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_now bigint := now_ms();
begin
    perform check_lease(p_epoch);
    return query
    with picked as materialized (
        select d.seq
        from unnest(p_names, p_free) as w (name, free)
        join agents a on a.name = w.name
        cross join lateral (
            select q.seq from deliveries q
            where q.recipient = a.id and q.state = 'accepted' and (q.expires_at is null or q.expires_at > v_now)
              and q.kind not in ('result', 'notice')
            order by q.seq limit w.free
            for update skip locked) d
        union all
        -- Turns that hold every place may wait for these, so they need none.
        select d.seq
        from unnest(p_names) as w (name)
        join agents a on a.name = w.name
        cross join lateral (
            select q.seq from deliveries q
            where q.recipient = a.id and q.state = 'accepted' and q.kind in ('result', 'notice')
            order by q.seq limit 256
            for update skip locked) d
    ), marked as (
        update deliveries d set state = 'dispatched', attempts = d.attempts + 1, dispatched_at = v_now
        from picked p where d.seq = p.seq
        returning d.*
    ), begun as (
        update tasks t set state = 'working', attempts = m.attempts
        from marked m
        where m.kind = 'task' and t.id = task_of(m.room) and t.state in ('submitted', 'working')
    ), counted as materialized (
        select count_inbox(m.recipient, -count(*) filter (where m.kind not in ('result', 'notice')),
                           -coalesce(sum(m.bytes) filter (where m.kind not in ('result', 'notice')), 0),
                           -count(*) filter (where m.kind in ('result', 'notice')))
        from marked m group by m.recipient
    )
    select m.seq, m.message, s.name, r.name, m.room, m.kind, x.content::text, m.attempts, m.crashes, x.in_reply_to,
           m.expires_at, x.hops, x.origin, x.traceparent, m.accepted_at
    from marked m
    join messages x on x.id = m.message and x.sender = m.sender
    join agents s on s.id = m.sender
    join agents r on r.id = m.recipient
    where (select count(*) from counted) >= 0
    order by m.seq;
    if found then
        perform hold_lease(p_epoch);
    end if;
end $$;

create function ended_rows(p_seqs bigint[])
returns table (delivery bigint, id uuid, sender text, recipient text, state text, reason text) language sql stable
as $$
    select d.seq, d.message, s.name, r.name, d.state, coalesce(d.reason, '')
    from deliveries d join agents s on s.id = d.sender join agents r on r.id = d.recipient
    where d.seq = any (p_seqs) order by d.seq
$$;

create function return_delivery(p_delivery deliveries, p_crashed boolean) returns boolean language plpgsql
as $$
declare
    v_crashes integer := p_delivery.crashes + p_crashed::integer;
    v_spent boolean := false;
begin
    -- Only crashes and failures count against a task's attempts: a graceful return, or a takeover, is not its fault.
    if p_crashed and p_delivery.kind = 'task' then
        update tasks set failures = failures + 1 where id = task_of(p_delivery.room)
        returning failures >= max_attempts into v_spent;
    end if;
    if p_crashed and (v_crashes >= 3 or v_spent) then
        update deliveries set crashes = v_crashes, last_error = 'an instance of its recipient died with it in hand'
        where seq = p_delivery.seq;
        return end_delivery(p_delivery.seq, 'dead', format('crashed its recipient %s times', v_crashes));
    end if;
    update deliveries
    set state = 'accepted', crashes = v_crashes,
        last_error = case when p_crashed then 'an instance of its recipient died with it in hand' else last_error end
    where seq = p_delivery.seq;
    return false;
end $$;

create function release_deliveries(p_epoch bigint, p_seqs bigint[], p_crashed boolean)
returns table (delivery bigint, id uuid, sender text, recipient text, state text, reason text) language plpgsql
as $$
#variable_conflict use_column
declare
    v_delivery deliveries;
    v_ended bigint[] := '{}';
begin
    perform hold_lease(p_epoch);
    for v_delivery in
        select * from deliveries d where d.seq = any (p_seqs) and d.state = 'dispatched' order by d.seq for update
    loop
        if return_delivery(v_delivery, p_crashed) then
            v_ended := v_ended || v_delivery.seq;
        end if;
    end loop;
    return query select * from ended_rows(v_ended);
end $$;

create function release_all_but(p_epoch bigint, p_agent uuid, p_in_flight bigint[]) returns integer language plpgsql
as $$
declare
    v_delivery deliveries;
    v_count integer := 0;
begin
    perform hold_lease(p_epoch);
    for v_delivery in
        select * from deliveries d
        where d.recipient = p_agent and d.state = 'dispatched' and d.seq <> all (p_in_flight)
        order by d.seq for update
    loop
        perform return_delivery(v_delivery, false);
        v_count := v_count + 1;
    end loop;
    return v_count;
end $$;

-- A thousand of each at most: a sweep that finds more comes back.
create function end_overdue(p_epoch bigint)
returns table (delivery bigint, id uuid, sender text, recipient text, state text, reason text) language plpgsql
as $$
#variable_conflict use_column
declare
    v_row record;
    v_task tasks;
    v_ended bigint[] := '{}';
    v_now bigint := now_ms();
    v_changed boolean := false;
begin
    perform check_lease(p_epoch);
    for v_row in
        select d.seq from deliveries d
        where d.state = 'accepted' and d.expires_at <= v_now and d.kind <> 'task'
        order by d.expires_at, d.seq limit 1000 for update skip locked
    loop
        v_changed := true;
        if end_delivery(v_row.seq, 'expired', 'its time passed') then
            v_ended := v_ended || v_row.seq;
        end if;
    end loop;
    for v_task in
        select * from tasks t
        where t.state in ('submitted', 'working', 'input-required') and t.deadline <= v_now
        order by t.deadline limit 1000
    loop
        -- The delivery first, as a turn's commit does; who is committing now is left to the next sweep.
        select d.seq into v_row from deliveries d
        where d.recipient = v_task.child and d.sender = v_task.parent and d.room = 'task:' || v_task.id
          and d.kind = 'task' and d.state in ('accepted', 'dispatched');
        if not found then
            v_changed := v_changed or end_task(v_task.id, 'failed', 'its deadline passed');
            continue;
        end if;
        perform from deliveries d where d.seq = v_row.seq for update skip locked;
        if not found then
            continue;
        end if;
        v_changed := true;
        if end_delivery(v_row.seq, 'expired', 'its deadline passed') then
            v_ended := v_ended || v_row.seq;
        end if;
    end loop;
    if v_changed then
        perform hold_lease(p_epoch);
    end if;
    return query select * from ended_rows(v_ended);
end $$;

create function accept_for(p_epoch bigint, p_sender uuid, p_messages jsonb, out ids uuid[], out names text[], out dead uuid[],
                           out refused text)
language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    select a.* into ids, names, dead, refused from accept_messages(p_sender, p_messages, true, null) a;
end $$;

create function delegate_for(p_epoch bigint, p_sender uuid, p_tasks jsonb) returns setof task_list language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    return query select * from accept_tasks(p_sender, p_tasks);
end $$;

create function set_desired(p_epoch bigint, p_agent text, p_desired text) returns boolean language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    update agents set desired = p_desired, orphaned = false, updated_at = now_ms()
    where name = p_agent and not reserved and (desired <> p_desired or orphaned);
    return exists (select from agents where name = p_agent and not reserved);
end $$;
