-- Accepting messages: recipients are fixed here, in the transaction of the sender.
-- Errors that callers tell apart: SW001 lease lost · SW002 unknown agent · SW003 no authority ·
-- SW004 id taken · SW005 own message · SW006 no such delivery · SW007 not a kind to send ·
-- SW008 unknown task · SW009 not what this task can do now · SW010 no such transition ·
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

-- Accept messages as `p_sender`, who has p_delivery in hand, or null. Returns parallel arrays (message id, recipient's
-- name), and in `dead` the messages that nobody gets, as their address names nobody or they are refused. With p_strict
-- nothing is accepted then: an unknown address is an error, and a refusal stands in `refused` ('kind: sentence',
-- 0013_storms.sql), because an error would undo its being noted. A message that was accepted before is answered as it was then.
create function accept_messages(p_sender uuid, p_messages jsonb, p_strict boolean, p_delivery bigint,
                                out ids uuid[], out names text[], out dead uuid[], out refused text)
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
    v_messages jsonb := with_cause(p_sender, p_messages, p_delivery);
    v_one jsonb := v_messages -> 0;
    v_recipient uuid;
    v_refusals jsonb;
begin
    -- The usual case, a message to an agent by its name, without the machinery of the others: a third of its time.
    if jsonb_array_length(v_messages) = 1 and v_one ->> 'kind' in ('tell', 'announce') then
        select a.id, a.name into v_recipient, v_name
        from agents a where a.name = v_one ->> 'to' and not a.reserved and a.id <> p_sender;
        if found then
            refused := refusal(p_sender, v_recipient, coalesce((v_one ->> 'hops')::integer, 0), as_uuid(v_one ->> 'origin'),
                               v_one ->> 'in_reply_to', 1, 1);
        end if;
        if refused is not null then
            v_refusals := case when exists (select from messages where id = (v_one ->> 'id')::uuid and sender = p_sender)
                               then '{}' else jsonb_build_object((v_one ->> 'id')::uuid, refused) end;
            refused := null;
        elsif v_recipient is not null then
            v_refusals := '{}';
            insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, origin, traceparent,
                                  accepted_at)
            values ((v_one ->> 'id')::uuid, p_sender, v_name, v_one ->> 'room', v_one ->> 'kind', v_one -> 'content',
                    v_one ->> 'in_reply_to', (v_one ->> 'expires_at')::bigint, coalesce((v_one ->> 'hops')::integer, 0),
                    as_uuid(v_one ->> 'origin'), v_one ->> 'traceparent', v_now)
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

    v_refusals := coalesce(v_refusals, refusals(p_sender, v_messages));
    if p_strict and v_refusals <> '{}' then
        select min(value) into refused from jsonb_each_text(v_refusals);
        ids := '{}';
        names := '{}';
        dead := '{}';
        return;
    end if;

    with fresh as (
        insert into messages (id, sender, address, room, kind, content, in_reply_to, expires_at, hops, origin, traceparent,
                              accepted_at)
        select g.id, p_sender, g."to", g.room, g.kind, g.content, g.in_reply_to, g.expires_at,
               least(coalesce(g.hops, 0), 32), as_uuid(g.origin), g.traceparent, v_now
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

    with placed as (
        insert into deliveries (message, sender, recipient, room, kind, expires_at, accepted_at, state, reason, ended_at)
        select g.id, p_sender, r.recipient, g.room, g.kind, g.expires_at, v_now,
               case when r.recipient is null or v_refusals ? g.id::text then 'dead' else 'accepted' end,
               case when r.recipient is null then 'there is no agent ' || quote_literal(g."to") else v_refusals ->> g.id::text end,
               case when r.recipient is null or v_refusals ? g.id::text then v_now end
        from rows from (jsonb_to_recordset(v_messages) as (id uuid, "to" text, room text, kind text, expires_at bigint))
             with ordinality as g (id, "to", room, kind, expires_at, ord)
        left join lateral (  -- of what is refused one delivery tells, whomever it was for
            select f.recipient from recipients_of(p_sender, g."to", g.id) as f (recipient)
            limit case when v_refusals ? g.id::text then 1 end) r on true
        where g.id = any (v_fresh) and (r.recipient is not null or g."to" not in ('all', 'children'))
        order by g.ord
        returning seq, message, recipient, state
    )
    select coalesce(array_agg(p.message) filter (where p.state = 'accepted'), '{}'),
           coalesce(array_agg(a.name) filter (where p.state = 'accepted'), '{}'),
           coalesce(array_agg(p.message) filter (where p.state = 'dead'), '{}'),
           coalesce(array_agg(p.seq) filter (where p.state = 'dead'), '{}')
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
