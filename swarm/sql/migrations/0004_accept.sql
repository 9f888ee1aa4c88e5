-- Accepting messages: recipients are fixed here, in the transaction of the sender.
-- Errors that callers tell apart: SW001 lease lost · SW002 unknown agent · SW003 no authority ·
-- SW004 id taken · SW005 own message · SW006 no such delivery · SW007 not a kind to send ·
-- SW020 a bound of the hierarchy · SW021 no such child.

-- The agents behind an address, without the sender: an agent never gets its own message. `role:x` is one of
-- those that offer x, running ones first, spread by the message's id and the same for it every time.
create function recipients_of(p_sender uuid, p_address text, p_message uuid) returns setof uuid
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
    (select a.id from agents a
     where p_address like 'role:%' and a.roles @> array[substr(p_address, 6)]
       and a.planned and not a.reserved and a.id <> p_sender
     order by (a.desired <> 'running'), md5(a.id::text || p_message::text) limit 1)
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

-- Accept messages as `p_sender`. Returns parallel arrays (message id, recipient's name), and in `dead` the
-- messages whose address names nobody; with p_strict those are an error and nothing is accepted.
-- A message that was accepted before is answered as it was then.
create function accept_messages(p_sender uuid, p_messages jsonb, p_strict boolean,
                                out ids uuid[], out names text[], out dead uuid[])
language plpgsql
as $$
#variable_conflict use_column
declare
    v_fresh uuid[];
    v_dead bigint[];
    v_delivery deliveries;
    v_now bigint := now_ms();
    v_name text;
    v_address text;
    v_one jsonb := p_messages -> 0;
    v_recipient uuid;
begin
    -- The usual case, a message to an agent by its name, without the machinery of the others: a third of its time.
    if jsonb_array_length(p_messages) = 1 and v_one ->> 'kind' in ('tell', 'announce') then
        select a.id, a.name into v_recipient, v_name
        from agents a where a.name = v_one ->> 'to' and not a.reserved and a.id <> p_sender;
        if found then
            insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, traceparent, accepted_at)
            values ((v_one ->> 'id')::uuid, p_sender, v_name, v_one ->> 'room', v_one ->> 'kind', v_one -> 'content',
                    v_one ->> 'in_reply_to', (v_one ->> 'expires_at')::bigint, coalesce((v_one ->> 'hops')::integer, 0),
                    v_one ->> 'traceparent', v_now)
            on conflict do nothing;
            if found then
                insert into deliveries (message, sender, recipient, room, kind, expires_at, accepted_at)
                values ((v_one ->> 'id')::uuid, p_sender, v_recipient, v_one ->> 'room', v_one ->> 'kind',
                        (v_one ->> 'expires_at')::bigint, v_now);
                ids := array[(v_one ->> 'id')::uuid];
                names := array[v_name];
                dead := '{}';
                return;
            end if;
        end if;
        v_name := null;
    end if;

    with fresh as (
        insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, traceparent, accepted_at)
        select g.id, p_sender, g."to", g.room, g.kind, g.content, g.in_reply_to, g.expires_at, coalesce(g.hops, 0),
               g.traceparent, v_now
        from jsonb_to_recordset(p_messages) as g (id uuid, "to" text, room text, kind text, content jsonb,
             in_reply_to text, expires_at bigint, hops integer, traceparent text)
        on conflict do nothing
        returning id, kind
    )
    select coalesce(array_agg(id), '{}'), min(kind) filter (where kind not in ('tell', 'announce'))
    into v_fresh, v_name from fresh;
    if v_name is not null then
        raise exception 'Nobody sends a % by hand', v_name using errcode = 'SW007';
    end if;

    with placed as (
        insert into deliveries (message, sender, recipient, room, kind, expires_at, accepted_at, state, reason, ended_at)
        select g.id, p_sender, r.recipient, g.room, g.kind, g.expires_at, v_now,
               case when r.recipient is null then 'dead' else 'accepted' end,
               case when r.recipient is null then 'there is no agent ' || quote_literal(g."to") end,
               case when r.recipient is null then v_now end
        from rows from (jsonb_to_recordset(p_messages) as (id uuid, "to" text, room text, kind text, expires_at bigint))
             with ordinality as g (id, "to", room, kind, expires_at, ord)
        left join lateral recipients_of(p_sender, g."to", g.id) as r (recipient) on true
        where g.id = any (v_fresh) and (r.recipient is not null or g."to" not in ('all', 'children'))
        order by g.ord
        returning seq, message, recipient
    )
    select coalesce(array_agg(p.message) filter (where a.id is not null), '{}'),
           coalesce(array_agg(a.name) filter (where a.id is not null), '{}'),
           coalesce(array_agg(p.message) filter (where a.id is null), '{}'),
           coalesce(array_agg(p.seq) filter (where a.id is null), '{}')
    into ids, names, dead, v_dead
    from placed p left join agents a on a.id = p.recipient;

    if v_dead <> '{}' then
        if p_strict then
            select m.address, a.name into v_address, v_name
            from messages m join agents a on a.id = p_sender
            where m.sender = p_sender and m.id = dead[1];
            if v_address in (v_name, p_sender::text) then
                raise exception '%', v_address using errcode = 'SW005';
            end if;
            raise exception '%', v_address using errcode = 'SW002';
        end if;
        for v_delivery in
            update deliveries d set reason = 'an agent does not write to itself'
            from messages m join agents a on a.id = m.sender
            where d.seq = any (v_dead) and m.id = d.message and m.sender = d.sender
              and m.address in (a.name, a.id::text)
            returning d.*
        loop null; end loop;
        for v_delivery in select * from deliveries where seq = any (v_dead) order by seq loop
            perform send_notice(v_delivery);
        end loop;
    end if;

    if cardinality(v_fresh) < jsonb_array_length(p_messages) then
        select ids || coalesce(array_agg(d.message), '{}'), names || coalesce(array_agg(a.name), '{}')
        into ids, names
        from deliveries d join agents a on a.id = d.recipient
        where d.sender = p_sender and d.message <> all (v_fresh)
          and d.message in (select (value ->> 'id')::uuid from jsonb_array_elements(p_messages));
    end if;
end $$;

-- Store.post: the agent that is logged in sends.
create function post_messages(p_messages jsonb, out ids uuid[], out names text[], out dead uuid[])
language plpgsql security definer set search_path from current
as $$
begin
    select a.ids, a.names, a.dead into ids, names, dead from accept_messages(require_agent(), p_messages, true) a;
end $$;
