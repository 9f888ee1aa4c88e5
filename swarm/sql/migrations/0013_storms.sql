-- Against loops and storms: what agents may send is bounded where it is accepted, on this clock, whoever's SQL
-- it was. Hops end a chain, the conversation's budget ends a tree, the pair's and the agent's pace end what says of
-- each message that it is a new conversation.

alter table messages add column origin uuid;  -- the message that began this conversation; null: this one did

-- A bound of 0 is none. Who has no row has its parent's; the zero id's is for whoever is left.
create table send_limits (
    agent                 uuid primary key,
    conversation_messages integer not null check (conversation_messages >= 0),
    pair_per_minute       integer not null check (pair_per_minute >= 0),
    tells_per_minute      integer not null check (tells_per_minute >= 0)
);
insert into send_limits values
    ('00000000-0000-0000-0000-000000000000', 20000, 6000, 60000),
    ('00000000-0000-0000-0000-000000000001', 0, 0, 0),
    ('00000000-0000-0000-0000-000000000002', 0, 0, 0);

-- Counters, unlogged: a database that crashed begins to count anew, and hops end a loop in any case.
create unlogged table paces (  -- the recipient zero: all that the sender sent
    sender    uuid,
    recipient uuid,
    minute    bigint not null,
    messages  integer not null,
    primary key (sender, recipient)
) with (fillfactor = 50);
create unlogged table conversations (
    origin   uuid primary key,
    messages integer not null,
    began_at bigint not null
) with (fillfactor = 70);
create index conversations_began on conversations (began_at);

create table storms (
    kind      text not null check (kind in ('hops', 'conversation', 'pair_rate', 'quota', 'announce_right', 'announce_limit')),
    sender    uuid not null,
    recipient uuid not null,
    text      text not null,
    refused   bigint not null default 1,
    first_at  bigint not null default now_ms(),
    last_at   bigint not null default now_ms(),
    primary key (kind, sender, recipient)
);
create index storms_latest on storms (last_at);

do $$
declare
    t text;
begin
    foreach t in array array['send_limits', 'paces', 'conversations', 'storms'] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy owner on %I to current_user using (true) with check (true)', t);
    end loop;
end $$;

create function nobody() returns uuid language sql immutable parallel safe
as $$ select '00000000-0000-0000-0000-000000000000'::uuid $$;

create function as_uuid(p_text text) returns uuid language sql immutable parallel safe
as $$ select case when p_text ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_text::uuid end $$;

-- What a message weighs in a counter that ends at p_limit: one of it where the limit is low; where it is high every
-- n-th counts for n, so that counting costs little and senders of one conversation seldom wait for each other.
create function weight(p_messages integer, p_limit integer) returns integer language plpgsql
as $$
declare
    v_step integer := greatest(1, p_limit / 1000);
begin
    if v_step = 1 then
        return p_messages;
    end if;
    return p_messages / v_step * v_step + case when random() * v_step < p_messages % v_step then v_step else 0 end;
end $$;

-- Messages in the sender's present minute, with these.
create function pace(p_sender uuid, p_recipient uuid, p_messages integer) returns integer language sql
as $$
    insert into paces as p (sender, recipient, minute, messages)
    values (p_sender, p_recipient, now_ms() / 60000, p_messages)
    on conflict (sender, recipient) do update set
        minute = excluded.minute,
        messages = excluded.messages + case when p.minute = excluded.minute then p.messages else 0 end
    returning messages
$$;

-- What a sender does because of a message that it got has come one hop further than that, whatever the sender says.
-- p_delivery: the message in hand, in a turn's commit. Else `in_reply_to` may name one.
create function with_cause(p_sender uuid, p_messages jsonb, p_delivery bigint) returns jsonb language plpgsql stable
as $$
declare
    v_cause record;
begin
    if p_delivery is not null then
        select m.id, m.hops + 1 as hops, coalesce(m.origin, m.id) as origin into v_cause
        from deliveries d join messages m on m.id = d.message and m.sender = d.sender where d.seq = p_delivery;
        return (
            select jsonb_agg(g.value || jsonb_build_object(
                'hops', greatest(v_cause.hops, (g.value ->> 'hops')::integer), 'origin', v_cause.origin,
                'in_reply_to', coalesce(g.value ->> 'in_reply_to', v_cause.id::text)) order by g.ord)
            from jsonb_array_elements(p_messages) with ordinality as g (value, ord));
    elsif p_messages @? '$[*].in_reply_to ? (@ != null)' then
        return (
            select jsonb_agg(case when c.origin is null then g.value else g.value || jsonb_build_object(
                'hops', greatest(c.hops, (g.value ->> 'hops')::integer), 'origin', c.origin) end order by g.ord)
            from jsonb_array_elements(p_messages) with ordinality as g (value, ord)
            left join lateral (
                select m.hops + 1 as hops, coalesce(m.origin, m.id) as origin
                from deliveries d join messages m on m.id = d.message and m.sender = d.sender
                where d.message = as_uuid(g.value ->> 'in_reply_to') and d.recipient = p_sender limit 1) c on true);
    end if;
    return p_messages;
end $$;

-- The last agents that a conversation came through, p_sender and p_recipient at its end: 'ada → bob → ada → bob'.
create function path_of(p_sender uuid, p_recipient uuid, p_cause uuid) returns text language sql stable
as $$
    with recursive back as (
        select p_sender as agent, p_cause as cause, 1 as step
        union all
        select m.sender, as_uuid(m.in_reply_to), b.step + 1
        from back b
        cross join lateral (
            select m.sender, m.in_reply_to
            from messages m join deliveries d on d.message = m.id and d.sender = m.sender
            where m.id = b.cause and d.recipient = b.agent limit 1) m
        where b.step < 7
    ), named as (
        select p_recipient as agent, 0 as step union all select agent, step from back
    )
    select case when max(n.step) >= 7 then '… → ' else '' end || string_agg(a.name, ' → ' order by n.step desc)
    from named n join agents a on a.id = n.agent
$$;

create function note_storm(p_kind text, p_sender uuid, p_recipient uuid, p_text text) returns text language sql
as $$
    insert into storms as s (kind, sender, recipient, text) values (p_kind, p_sender, coalesce(p_recipient, nobody()), p_text)
    on conflict (kind, sender, recipient) do update
        set text = excluded.text, refused = s.refused + 1, last_at = excluded.last_at
    returning kind || ': ' || text
$$;

-- Why p_sender may not send this many messages (and deliveries) of one conversation to p_recipient (null: to a group) now:
-- 'kind: sentence', noted in `storms`; null when it may, and then they are counted.
create function refusal(p_sender uuid, p_recipient uuid, p_hops integer, p_origin uuid, p_cause text, p_messages integer,
                        p_deliveries integer) returns text language plpgsql
as $$
declare
    v_limits send_limits;
    v_weight integer;
    v_me text;
    v_other text;
begin
    if p_hops > 32 then
        return note_storm('hops', p_sender, p_recipient, format(
            'this conversation has come through 32 agents, the last of them %s; look for agents that answer each other',
            path_of(p_sender, p_recipient, as_uuid(p_cause))));
    end if;
    select * into v_limits from send_limits where agent = p_sender;
    if not found then  -- made at run time
        select l.* into v_limits from send_limits l left join agents a on a.id = p_sender
        where l.agent in (a.parent, nobody()) order by l.agent desc limit 1;
    end if;
    if p_hops > 0 and p_origin is not null and v_limits.conversation_messages > 0 then
        v_weight := weight(p_deliveries, v_limits.conversation_messages);
        if v_weight > 0 and converse(p_origin, v_weight) > v_limits.conversation_messages then
            return note_storm('conversation', p_sender, p_recipient, format(
                'over %s messages have come of one, which is limits.conversation_messages, the last of them through %s',
                v_limits.conversation_messages, path_of(p_sender, p_recipient, as_uuid(p_cause))));
        end if;
    end if;
    if v_limits.tells_per_minute > 0 then
        v_weight := weight(p_messages, v_limits.tells_per_minute);
        if v_weight > 0 and pace(p_sender, nobody(), v_weight) > v_limits.tells_per_minute then
            select name into v_me from agents where id = p_sender;
            return note_storm('quota', p_sender, null, format(
                '%s has sent over %s messages within a minute, which is limits.tells_per_minute', v_me, v_limits.tells_per_minute));
        end if;
    end if;
    if p_recipient is not null and v_limits.pair_per_minute > 0 then
        v_weight := weight(p_messages, v_limits.pair_per_minute);
        -- One who sends much to another who is silent does work; two who send each other as much answer each other.
        if v_weight > 0 and pace(p_sender, p_recipient, v_weight) > v_limits.pair_per_minute and exists (
            select from paces p
            where p.sender = p_recipient and p.recipient = p_sender
              and p.minute = now_ms() / 60000 and p.messages > v_limits.pair_per_minute / 2
        ) then
            select name into v_me from agents where id = p_sender;
            select name into v_other from agents where id = p_recipient;
            return note_storm('pair_rate', p_sender, p_recipient, format(
                '%s and %s have sent each other over %s messages within a minute, which is limits.pair_per_minute',
                v_me, v_other, v_limits.pair_per_minute));
        end if;
    end if;
    return null;
end $$;

-- Messages of this conversation, with these. Now and then the counters of old conversations are thrown away.
create function converse(p_origin uuid, p_messages integer) returns integer language plpgsql
as $$
declare
    v_messages integer;
begin
    insert into conversations as c (origin, messages, began_at) values (p_origin, p_messages, now_ms())
    on conflict (origin) do update set messages = c.messages + excluded.messages
    returning messages into v_messages;
    if v_messages = p_messages and random() < 0.02 then
        delete from conversations where origin in (
            select origin from conversations where began_at < now_ms() - 86400000
            order by began_at limit 200 for update skip locked);
    end if;
    return v_messages;
end $$;

-- `refusal` for many messages at once: {message id: 'kind: sentence'} of those that are new and refused.
create function refusals(p_sender uuid, p_messages jsonb) returns jsonb language plpgsql
as $$
declare
    v_group record;
    v_refusal text;
    v_refused jsonb := '{}';
begin
    for v_group in
        select a.id as recipient, case when g.hops > 32 then 33 else least(coalesce(g.hops, 0), 1) end as hops,
               as_uuid(g.origin) as origin, min(g.in_reply_to) as cause, array_agg(g.id) as ids,
               sum(case when a.id is not null or coalesce(g.hops, 0) = 0 then 1
                        else (select count(*) from recipients_of(p_sender, g."to", g.kind, g.id)) end)::integer as deliveries
        from jsonb_to_recordset(p_messages) as g (id uuid, "to" text, kind text, in_reply_to text, hops integer, origin text)
        left join agents a on a.name = g."to" and a.id <> p_sender
        where not exists (select from messages m where m.id = g.id and m.sender = p_sender)
        group by 1, 2, 3
        order by 3, 1  -- counters are locked in one order by all
    loop
        v_refusal := refusal(p_sender, v_group.recipient, v_group.hops, v_group.origin, v_group.cause,
                             cardinality(v_group.ids), v_group.deliveries);
        if v_refusal is not null then
            select v_refused || jsonb_object_agg(id, v_refusal) into v_refused from unnest(v_group.ids) as id;
        end if;
    end loop;
    return v_refused;
end $$;

-- Bounds as the swarm file has them.
create function plan_send_limits(p_plans jsonb) returns void language sql
as $$
    insert into send_limits
    select p.id, (p.limits ->> 'conversation_messages')::integer, (p.limits ->> 'pair_per_minute')::integer,
           (p.limits ->> 'tells_per_minute')::integer
    from jsonb_to_recordset(p_plans) as p (id uuid, limits jsonb)
    where jsonb_typeof(p.limits) = 'object'
    on conflict (agent) do update set
        conversation_messages = excluded.conversation_messages, pair_per_minute = excluded.pair_per_minute,
        tells_per_minute = excluded.tells_per_minute
$$;

revoke all on all functions in schema :"schema" from public;
