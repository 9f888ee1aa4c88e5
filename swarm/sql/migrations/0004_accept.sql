-- Accepting messages: recipients are fixed here, in the transaction of the sender.
-- Errors that callers tell apart: SW001 lease lost · SW002 unknown agent · SW003 no authority ·
-- SW004 id taken · SW005 own message · SW006 no such delivery · SW007 not a kind to send ·
-- SW008 unknown task · SW009 not what this task can do now · SW010 no such transition ·
-- SW020 a bound of the hierarchy · SW021 no such child · SW030 inbox full ·
-- SW031 a dead letter that cannot be requeued or dropped.

-- The agents behind an address, without the sender: an agent never gets its own message. A tell to `role:x` is one
-- of those that offer x, running ones first, spread by the message's id and the same for it every time; an
-- announcement to it is all of them.
create function recipients_of(p_sender uuid, p_address text, p_kind text, p_message uuid) returns setof uuid
language sql stable
as $$
    select a.id from agents a where a.name = p_address and not a.reserved and a.id <> p_sender
    union all
    select a.id from agents a
    where a.id = case when p_address ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then p_address::uuid end
      and not a.reserved and a.id <> p_sender
    union all
    select a.id from agents a where p_address = 'all' and a.planned and not a.reserved and a.id <> p_sender
    union all
    select a.id from agents a where p_address = 'children' and a.parent = p_sender and a.planned
    union all
    select s.parent from agents s where p_address = 'parent' and s.id = p_sender and s.parent is not null
    union all
    select a.id from groups g join agents a on a.id = g.agent
    where p_address like 'group:%' and g.name = substr(p_address, 7) and a.planned and a.id <> p_sender
    union all
    (select a.id from agents a
     where p_address like 'role:%' and a.roles @> array[substr(p_address, 6)]
       and a.planned and not a.reserved and a.id <> p_sender
     order by (a.desired <> 'running'), md5(a.id::text || p_message::text)
     limit case when p_kind <> 'announce' then 1 end)
$$;

-- Whether a message goes to many at once, so that it needs no recipient, and one that is full is no reason to
-- refuse the others.
create function goes_to_many(p_address text, p_kind text) returns boolean language sql immutable
as $$
    select p_address in ('all', 'children') or p_address like 'group:%' or (p_kind = 'announce' and p_address like 'role:%')
$$;

create function derived_uuid(p_text text) returns uuid language sql immutable
as $$ select md5(p_text)::uuid $$;

-- Tell the sender that a delivery of it ended badly. Never about a notice or a result, so that none breeds another.
create function send_notice(p_delivery deliveries) returns void language plpgsql
as $$
declare
    v_id uuid := derived_uuid('notice:' || p_delivery.seq);
    v_coordinator uuid;
    v_message messages;
    v_to text;
begin
    if p_delivery.kind not in ('tell', 'announce')
       or not exists (select from agents where id = p_delivery.sender and not reserved) then
        return;
    end if;
    select id into v_coordinator from agents where name = 'coordinator';
    select * into v_message from messages where id = p_delivery.message and sender = p_delivery.sender;
    v_to := coalesce((select name from agents where id = p_delivery.recipient), v_message.address);
    insert into messages (id, sender, address, room, kind, content, in_reply_to, hops, traceparent, accepted_at)
    values (v_id, v_coordinator, (select name from agents where id = p_delivery.sender), p_delivery.room, 'notice',
            jsonb_build_object(
                'text', format('Your message to %s is %s: %s.', v_to, p_delivery.state, p_delivery.reason),
                'data', jsonb_build_object('message', p_delivery.message, 'recipient', v_to,
                                           'state', p_delivery.state, 'reason', p_delivery.reason)),
            p_delivery.message::text, least(v_message.hops + 1, 32), v_message.traceparent, now_ms())
    on conflict do nothing;
    insert into deliveries (message, sender, recipient, room, kind, accepted_at)
    values (v_id, v_coordinator, p_delivery.sender, p_delivery.room, 'notice', now_ms())
    on conflict do nothing;
end $$;

-- Why announcements of this call may not be sent: {message id: 'kind: sentence'}, noted in `storms` (0013_storms.sql).
-- Announcing is a right; how often and how large is bounded by the database's clock, over the last 60 s. The operator
-- and the coordinator are not bounded. Announcements of one sender go one after the other.
create function announce_refusals(p_sender agents, p_messages jsonb) returns jsonb language plpgsql
as $$
declare
    v_row record;
    v_recent bigint;
    v_said text;
    v_refused jsonb := '{}';
begin
    for v_row in
        select g.id, goes_to_many(g."to", g.kind) and g."to" <> 'children' as counts, octet_length(g.content::text) as bytes
        from rows from (jsonb_to_recordset(p_messages) as (id uuid, "to" text, kind text, content jsonb))
             with ordinality as g (id, "to", kind, content, ord)
        where (g.kind = 'announce' or (goes_to_many(g."to", g.kind) and g."to" <> 'children')) and not p_sender.reserved
          and not exists (select from messages m where m.id = g.id and m.sender = p_sender.id)
        order by g.ord
    loop
        if v_recent is null then
            perform pg_advisory_xact_lock(hashtextextended('swarm announce ' || p_sender.id, 0));
            select count(*) into v_recent from messages
            where sender = p_sender.id and announced and accepted_at > now_ms() - 60000;
        end if;
        v_said := null;
        if not p_sender.announce then
            v_said := note_storm('announce_right', p_sender.id, null, format(
                '%s may not announce; permissions = { announce = true } in the swarm file allows it', p_sender.name));
        elsif v_row.counts and v_row.bytes > p_sender.announce_bytes then
            v_said := note_storm('announce_limit', p_sender.id, null, format(
                'its %s bytes are more than %s may announce at once, which is %s (limits.announce_kb)',
                v_row.bytes, p_sender.name, p_sender.announce_bytes));
        elsif v_row.counts and v_recent >= p_sender.announce_per_minute then
            v_said := note_storm('announce_limit', p_sender.id, null, format(
                '%s has announced %s times within a minute, which is limits.announce_per_minute', p_sender.name, v_recent));
        end if;
        if v_said is not null then
            v_refused := v_refused || jsonb_build_object(v_row.id, v_said);
        elsif v_row.counts then
            v_recent := v_recent + 1;
        end if;
    end loop;
    return v_refused;
end $$;

-- Accept messages as `p_sender`, who has p_delivery in hand, or null. Returns parallel arrays (message id, recipient's
-- name), and in `dead` the messages that nobody gets: the address names nobody, the only inbox is full, or they are
-- refused. With p_strict nothing is accepted then: an unknown address or a full inbox is an error, and a refusal stands
-- in `refused` ('kind: sentence', 0013_storms.sql), because an error would undo its being noted. Of many recipients,
-- those whose inbox is full have a dead letter and the others their delivery. A message that was accepted before is
-- answered as it was then.
create function accept_messages(p_sender uuid, p_messages jsonb, p_strict boolean, p_delivery bigint,
                                out ids uuid[], out names text[], out dead uuid[], out refused text)
language plpgsql
as $$
#variable_conflict use_column
declare
    v_fresh uuid[];
    v_lost bigint[];
    v_delivery deliveries;
    v_now bigint := now_ms();
    v_messages jsonb := with_cause(p_sender, p_messages, p_delivery);
    v_one jsonb := v_messages -> 0;
    v_sender agents;
    v_to agents;
    v_row record;
    v_bytes bigint;
    v_name text;
    v_refusals jsonb;
begin
    -- The usual case, a message to an agent by its name, without the machinery of the others: a third of its time.
    if jsonb_array_length(v_messages) = 1 and v_one ->> 'kind' = 'tell' then
        select a.* into v_to
        from agents a where a.name = v_one ->> 'to' and not a.reserved and a.id <> p_sender;
        if found then
            refused := refusal(p_sender, v_to.id, coalesce((v_one ->> 'hops')::integer, 0), as_uuid(v_one ->> 'origin'),
                               v_one ->> 'in_reply_to', 1, 1);
            v_bytes := octet_length((v_one -> 'content')::text);
            v_refusals := '{}';
        end if;
        if refused is not null then
            v_refusals := case when exists (select from messages where id = (v_one ->> 'id')::uuid and sender = p_sender)
                               then '{}' else jsonb_build_object((v_one ->> 'id')::uuid, refused) end;
            refused := null;
        elsif v_refusals is not null
              and inbox_full(v_to.id, v_to.name, v_to.inbox_messages, v_to.inbox_bytes, 1, v_bytes) is null then
            insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, origin, traceparent,
                                  accepted_at)
            values ((v_one ->> 'id')::uuid, p_sender, v_to.name, v_one ->> 'room', v_one ->> 'kind', v_one -> 'content',
                    v_one ->> 'in_reply_to', (v_one ->> 'expires_at')::bigint, coalesce((v_one ->> 'hops')::integer, 0),
                    as_uuid(v_one ->> 'origin'), v_one ->> 'traceparent', v_now)
            on conflict do nothing;
            if found then
                insert into deliveries (message, sender, recipient, room, kind, bytes, expires_at, accepted_at)
                values ((v_one ->> 'id')::uuid, p_sender, v_to.id, v_one ->> 'room', v_one ->> 'kind', v_bytes,
                        (v_one ->> 'expires_at')::bigint, v_now);
                perform count_inbox(v_to.id, 1, v_bytes, 0);
                ids := array[(v_one ->> 'id')::uuid];
                names := array[v_to.name];
                dead := '{}';
                return;
            end if;
        end if;
    end if;

    select * into v_sender from agents where id = p_sender;
    v_refusals := coalesce(v_refusals, refusals(p_sender, v_messages) || announce_refusals(v_sender, v_messages));
    if p_strict and v_refusals <> '{}' then
        select min(value) into refused from jsonb_each_text(v_refusals);
        ids := '{}';
        names := '{}';
        dead := '{}';
        return;
    end if;

    with fresh as (
        insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, origin, traceparent,
                              accepted_at, announced)
        select g.id, p_sender, g."to", g.room, g.kind, g.content, g.in_reply_to, g.expires_at,
               least(coalesce(g.hops, 0), 32), as_uuid(g.origin), g.traceparent, v_now,
               g."to" <> 'children' and goes_to_many(g."to", g.kind) and not v_refusals ? g.id::text
        from jsonb_to_recordset(v_messages) as g (id uuid, "to" text, room text, kind text, content jsonb,
             in_reply_to text, expires_at bigint, hops integer, origin text, traceparent text)
        on conflict do nothing
        returning id, kind
    )
    select coalesce(array_agg(id), '{}'), min(kind) filter (where kind not in ('tell', 'announce'))
    into v_fresh, v_name from fresh;
    if v_name is not null then
        raise exception 'Nobody sends a % by hand', v_name using errcode = 'SW007';
    end if;

    with target as materialized (
        select g.*, octet_length(g.content::text) as bytes, r.recipient, v_refusals ->> g.id::text as refusal
        from rows from (jsonb_to_recordset(v_messages)
                        as (id uuid, "to" text, room text, kind text, content jsonb, expires_at bigint))
             with ordinality as g (id, "to", room, kind, content, expires_at, ord)
        left join lateral (  -- of what is refused one delivery tells, whomever it was for
            select f.recipient from recipients_of(p_sender, g."to", g.kind, g.id) as f (recipient)
            limit case when v_refusals ? g.id::text then 1 end) r on true
        where g.id = any (v_fresh)
    ), summed as materialized (
        select t.*, a.name, a.inbox_messages, a.inbox_bytes,
               count(*) over mine as messages_more, sum(t.bytes) over mine as bytes_more
        from target t left join agents a on a.id = t.recipient
        where t.recipient is not null or t.refusal is not null or t."to" not in ('all', 'children')
          and not exists (select from groups g where t."to" = 'group:' || g.name)
        window mine as (partition by t.recipient order by t.ord rows unbounded preceding)
        order by t.recipient, t.ord  -- inboxes are locked in one order by all
    ), judged as materialized (
        select s.*, case
            when s.refusal is not null then s.refusal
            when s.recipient is not null
                then inbox_full(s.recipient, s.name, s.inbox_messages, s.inbox_bytes, s.messages_more, s.bytes_more::bigint)
            when s."to" in (v_sender.name, p_sender::text) then 'an agent does not write to itself'
            else 'there is no agent ' || quote_literal(s."to") end as why
        from summed s
    ), placed as (
        insert into deliveries (message, sender, recipient, room, kind, bytes, expires_at, accepted_at, state, reason, ended_at)
        select j.id, p_sender, j.recipient, j.room, j.kind, j.bytes, j.expires_at, v_now,
               case when j.why is null then 'accepted' else 'dead' end, j.why, case when j.why is not null then v_now end
        from judged j order by j.ord
        returning seq, message, recipient, state, bytes
    ), counted as materialized (
        select count_inbox(p.recipient, count(*), sum(p.bytes), 0)
        from placed p where p.state = 'accepted' group by p.recipient
    )
    select coalesce(array_agg(p.message) filter (where p.state = 'accepted'), '{}'),
           coalesce(array_agg(a.name) filter (where p.state = 'accepted'), '{}'),
           coalesce(array_agg(p.seq) filter (where p.state = 'dead'), '{}')
    into ids, names, v_lost
    from placed p left join agents a on a.id = p.recipient
    where (select count(*) from counted) >= 0;

    dead := '{}';
    for v_delivery in select * from deliveries where seq = any (v_lost) order by seq loop
        select m.address, m.kind into v_row from messages m where m.id = v_delivery.message and m.sender = p_sender;
        if v_delivery.recipient is null or v_refusals ? v_delivery.message::text
           or not goes_to_many(v_row.address, v_row.kind) then
            if p_strict and v_delivery.recipient is not null then
                select a.name into v_name from agents a where a.id = v_delivery.recipient;
                raise exception '%', v_delivery.reason using errcode = 'SW030', detail = v_name;
            elsif p_strict then
                raise exception '%', v_row.address using errcode =
                    case when v_row.address in (v_sender.name, p_sender::text) then 'SW005' else 'SW002' end;
            end if;
            dead := dead || v_delivery.message;
        end if;
        perform send_notice(v_delivery);
    end loop;

    if cardinality(v_fresh) < jsonb_array_length(v_messages) then
        select ids || coalesce(array_agg(d.message), '{}'), names || coalesce(array_agg(a.name), '{}')
        into ids, names
        from deliveries d join agents a on a.id = d.recipient
        where d.sender = p_sender and d.message <> all (v_fresh)
          and d.message in (select (value ->> 'id')::uuid from jsonb_array_elements(v_messages));
    end if;
end $$;

-- Store.post: the agent that is logged in sends.
create function post_messages(p_messages jsonb, out ids uuid[], out names text[], out dead uuid[], out refused text)
language plpgsql security definer set search_path from current
as $$
begin
    select a.* into ids, names, dead, refused from accept_messages(require_agent(), p_messages, true, null) a;
end $$;
