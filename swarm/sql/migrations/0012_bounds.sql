-- The bounds of inboxes and of announcing, and what becomes of mail that ended badly: dead letters.

-- How much waits for each agent, without counting it. A writer adds to any row of the agent that nobody else
-- holds, and makes a new one if there is none: so nobody waits for a counter, and the sum of the rows is exact.
-- Messages are what the bound is on; answers (results and notices) are outside of it.
create table inbox_counts (
    agent    uuid not null,
    messages bigint not null,
    bytes    bigint not null,
    answers  bigint not null
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
create index inbox_counts_agent on inbox_counts (agent);

create function count_inbox(p_agent uuid, p_messages bigint, p_bytes bigint, p_answers bigint) returns void language plpgsql
as $$
declare
    v_row tid;
begin
    select c.ctid into v_row from inbox_counts c where c.agent = p_agent limit 1 for update skip locked;
    if found then
        update inbox_counts set messages = messages + p_messages, bytes = bytes + p_bytes, answers = answers + p_answers
        where ctid = v_row;
    else
        insert into inbox_counts (agent, messages, bytes, answers) values (p_agent, p_messages, p_bytes, p_answers);
    end if;
end $$;

-- Why an inbox does not take `p_messages` more of `p_bytes` together; null if it does. Far from the bound nobody
-- waits; near it senders go one after the other, so that together they do not pass it. (In the order of the
-- agents' ids: whoever writes to many asks for them so.)
create function inbox_full(p_agent uuid, p_name text, p_most bigint, p_most_bytes bigint, p_messages bigint, p_bytes bigint)
returns text language plpgsql
as $$
declare
    v_messages bigint;
    v_bytes bigint;
begin
    for v_try in 1..2 loop
        select coalesce(sum(c.messages), 0), coalesce(sum(c.bytes), 0) into v_messages, v_bytes
        from inbox_counts c where c.agent = p_agent;
        if v_messages + p_messages <= p_most - 256 and v_bytes + p_bytes <= p_most_bytes / 2 then
            return null;
        end if;
        if v_try = 1 then
            perform pg_advisory_xact_lock(hashtextextended('swarm inbox ' || p_agent, 0));
        end if;
    end loop;
    if v_messages + p_messages > p_most then
        return format('the inbox of %s is full: %s messages wait there and its bound is %s (inbox_messages)',
                      p_name, v_messages, p_most);
    elsif v_bytes + p_bytes > p_most_bytes then
        return format('the inbox of %s is full: %s bytes wait there and its bound is %s (inbox_mb)',
                      p_name, v_bytes, p_most_bytes);
    end if;
    return null;
end $$;

-- Tells and announcements are counted where they are accepted, claims where they are made, each at once. All else:
create function delivery_counted() returns trigger language plpgsql
as $$
declare
    v_sign integer := case when new.state = 'accepted' then 1 else -1 end;
begin
    if new.kind in ('result', 'notice') then
        perform count_inbox(new.recipient, 0, 0, v_sign);
    else
        perform count_inbox(new.recipient, v_sign, v_sign * new.bytes, 0);
    end if;
    return null;
end $$;
create trigger delivery_enters after insert on deliveries for each row
    when (new.state = 'accepted' and new.kind not in ('tell', 'announce')) execute function delivery_counted();
create trigger delivery_moves after update of state on deliveries for each row
    when ((old.state = 'accepted') <> (new.state = 'accepted') and old.attempts = new.attempts)
    execute function delivery_counted();

-- Dead letters: what expired or died, kept with what is needed to judge it. Requeued once or dropped, it stays.
create table dead_letters (
    delivery    bigint primary key references deliveries (seq) on delete cascade,
    hash        text not null,  -- sha256 of the content's JSON, as it was when the delivery ended
    error       text,           -- the last error on the way, where there was one
    requeued_as uuid,
    requeued_at bigint,
    requeued_by text,
    dropped_at  bigint,
    dropped_by  text,
    check (requeued_as is null or dropped_at is null)
);

create function bury() returns trigger language plpgsql
as $$
begin
    insert into dead_letters (delivery, hash, error)
    select new.seq, encode(sha256(convert_to(m.content::text, 'UTF8')), 'hex'), new.last_error
    from messages m where m.id = new.message and m.sender = new.sender
    on conflict do nothing;
    return null;
end $$;
create trigger delivery_born_dead after insert on deliveries for each row
    when (new.state in ('expired', 'dead')) execute function bury();
create trigger delivery_dies after update of state on deliveries for each row
    when (new.state in ('expired', 'dead')) execute function bury();

create view dead_list with (security_invoker = true) as
select d.seq as delivery, m.id, s.name as sender, coalesce(r.name, m.address) as recipient, r.name as agent, m.address, m.room,
       m.kind, m.content, d.state, d.reason, d.attempts, d.crashes, m.accepted_at, d.ended_at, m.requeue_of,
       l.hash, l.error, l.requeued_as, l.requeued_at, l.requeued_by, l.dropped_at, l.dropped_by
from dead_letters l
join deliveries d on d.seq = l.delivery
join messages m on m.id = d.message and m.sender = d.sender
join agents s on s.id = d.sender
left join agents r on r.id = d.recipient;

-- A dead letter that is neither requeued nor dropped, held until this commits.
create function hold_dead_letter(p_delivery bigint) returns void language plpgsql
as $$
declare
    v_letter dead_letters;
begin
    select * into v_letter from dead_letters where delivery = p_delivery for update;
    if not found then
        raise exception 'There is no dead letter %', p_delivery using errcode = 'SW031';
    elsif v_letter.requeued_as is not null then
        raise exception 'Dead letter % was requeued before, by %, as message %', p_delivery, v_letter.requeued_by,
            v_letter.requeued_as using errcode = 'SW031';
    elsif v_letter.dropped_at is not null then
        raise exception 'Dead letter % was dropped by %', p_delivery, v_letter.dropped_by using errcode = 'SW031';
    end if;
end $$;

-- Send a dead letter again as message `p_new`, if its sender might send it today; a task is given again by
-- `retry_task`, so that this and `swarm task retry` find what the other has made. Returns what it goes as and to whom.
create function requeue_dead_letter(p_epoch bigint, p_delivery bigint, p_new uuid, p_by text, out id uuid, out names text[])
language plpgsql
as $$
#variable_conflict use_column
declare
    v_delivery deliveries;
    v_message messages;
    v_sender agents;
    v_recipient agents;
    v_now bigint := now_ms();
    v_id uuid := p_new;
    v_names text[];
    v_refused text;
begin
    perform hold_lease(p_epoch);
    perform hold_dead_letter(p_delivery);
    select * into v_delivery from deliveries where seq = p_delivery;
    select * into v_message from messages where id = v_delivery.message and sender = v_delivery.sender;
    select * into v_sender from agents where id = v_delivery.sender for share;
    select * into v_recipient from agents where id = v_delivery.recipient for share;
    if v_delivery.kind not in ('tell', 'announce', 'task') then
        raise exception 'A % is not sent again: it tells of something that stays in the ledger', v_delivery.kind
            using errcode = 'SW031';
    elsif not v_sender.planned then
        raise exception 'Its sender % is no longer in the swarm', v_sender.name using errcode = 'SW031';
    elsif v_recipient.id is not null and not v_recipient.planned then
        raise exception 'Its recipient % is no longer in the swarm', v_recipient.name using errcode = 'SW031';
    end if;
    if v_delivery.kind = 'task' then
        select (r.task).id, r.names into v_id, v_names
        from retry_task((select a.id from agents a where a.name = 'operator'), task_of(v_delivery.room)) r;
    else
        select a.names, a.refused into v_names, v_refused
        from accept_messages(v_sender.id, jsonb_build_array(jsonb_build_object(
            'id', p_new, 'to', coalesce(v_recipient.name, v_message.address), 'room', v_message.room,
            'kind', v_message.kind, 'content', v_message.content, 'in_reply_to', v_message.in_reply_to,
            'expires_at', v_now + (v_message.expires_at - v_message.accepted_at), 'hops', v_message.hops,
            'origin', v_message.origin, 'traceparent', v_message.traceparent)), true, null) a;
        if v_refused is not null then
            raise exception 'It cannot be sent again now: %', substr(v_refused, strpos(v_refused, ': ') + 2) using errcode = 'SW031';
        end if;
    end if;
    update messages m set requeue_of = v_message.id where m.id = v_id and m.sender = v_sender.id;
    update dead_letters l set requeued_as = v_id, requeued_at = v_now, requeued_by = p_by where l.delivery = p_delivery;
    id := v_id;
    names := v_names;
end $$;

create function drop_dead_letter(p_epoch bigint, p_delivery bigint, p_by text) returns void language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    perform hold_dead_letter(p_delivery);
    update dead_letters set dropped_at = now_ms(), dropped_by = p_by where delivery = p_delivery;
end $$;

-- End what has waited longer than its recipient's inbox keeps it: the oldest of each, a thousand at most.
create function end_aged(p_epoch bigint)
returns table (delivery bigint, id uuid, sender text, recipient text, state text, reason text) language plpgsql
as $$
#variable_conflict use_column
declare
    v_row record;
    v_now bigint := now_ms();
    v_ended bigint[] := '{}';
begin
    perform check_lease(p_epoch);
    for v_row in
        select o.seq
        from (select c.agent from inbox_counts c group by c.agent having sum(c.messages) > 0) w
        join agents a on a.id = w.agent
        cross join lateral (
            select d.seq, d.accepted_at, d.kind from deliveries d
            where d.recipient = a.id and d.state = 'accepted' order by d.seq limit 200) o
        where o.accepted_at <= v_now - a.inbox_ms and o.kind not in ('result', 'notice')
        order by o.seq limit 1000
    loop
        perform from deliveries d where d.seq = v_row.seq and d.state = 'accepted' for update skip locked;
        if found and end_delivery(v_row.seq, 'expired', 'it waited longer than its recipient keeps mail (inbox_days)') then
            v_ended := v_ended || v_row.seq;
        end if;
    end loop;
    if v_ended <> '{}' then
        perform hold_lease(p_epoch);
    end if;
    return query select * from ended_rows(v_ended);
end $$;

create function provision_bounds(p_plans jsonb) returns void language sql
as $$
    update agents a
    set inbox_messages = p.inbox_messages, inbox_bytes = p.inbox_bytes, inbox_ms = p.inbox_ms,
        announce_per_minute = p.announce_per_minute, announce_bytes = p.announce_bytes
    from (select (g ->> 'id')::uuid as id, l.*
          from jsonb_array_elements(p_plans) g,
               jsonb_to_record(g -> 'bounds') as l (inbox_messages integer, inbox_bytes bigint, inbox_ms bigint,
                                                    announce_per_minute integer, announce_bytes integer)) p
    where a.id = p.id
      and (a.inbox_messages, a.inbox_bytes, a.inbox_ms, a.announce_per_minute, a.announce_bytes)
          is distinct from
          (p.inbox_messages, p.inbox_bytes, p.inbox_ms, p.announce_per_minute, p.announce_bytes)
$$;

-- Of an agent that is made at run time.
create function inherit_bounds(p_agent uuid, p_parent agents) returns void language sql
as $$
    update agents
    set inbox_messages = p_parent.inbox_messages, inbox_bytes = p_parent.inbox_bytes, inbox_ms = p_parent.inbox_ms,
        announce_per_minute = p_parent.announce_per_minute, announce_bytes = p_parent.announce_bytes
    where id = p_agent
$$;

create function provision_groups(p_groups jsonb) returns void language sql
as $$
    delete from groups g
    where not exists (select from agents a where a.id = g.agent and p_groups -> g.name ? a.name);
    insert into groups (name, agent)
    select g.key, a.id from jsonb_each(p_groups) g, jsonb_array_elements_text(g.value) m
    join agents a on a.name = m.value
    on conflict do nothing;
$$;

do $$
declare
    t text;
begin
    foreach t in array array['inbox_counts', 'dead_letters'] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy owner on %I to current_user using (true) with check (true)', t);
    end loop;
end $$;
revoke all on all functions in schema :"schema" from public;
