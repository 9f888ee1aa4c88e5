-- A turn's commit: handled mark, memories, messages and the task's outcome, all or nothing, in one call.

create function commit_turn(p_turn jsonb, out status text, out recipients text[], out dead uuid[])
language plpgsql security definer set search_path from current
as $$
declare
    v_me uuid := require_agent();
    v_seq bigint := (p_turn ->> 'delivery')::bigint;
    v_attempt integer := coalesce((p_turn ->> 'attempt')::integer, 0);
    v_outcome jsonb := nullif(p_turn -> 'outcome', 'null'::jsonb);
    v_dead text := p_turn ->> 'dead';  -- given up: the delivery dies with this reason instead
    v_now bigint := now_ms();
    v_delivery deliveries;
    v_name text;
begin
    recipients := '{}';
    dead := '{}';
    if v_seq is not null then
        update deliveries d
        set state = case when v_dead is null then 'handled' else 'dead' end,
            handled_at = case when v_dead is null then v_now end,
            ended_at = case when v_dead is not null then v_now end,
            reason = v_dead,
            last_error = coalesce(v_dead, d.last_error),
            handled_by = p_turn ->> 'instance'
        where d.seq = v_seq and d.recipient = v_me
          and d.handled_at is null and d.state in ('accepted', 'dispatched')
          and (d.kind <> 'task' or d.attempts = v_attempt)
          and not exists (  -- the order gate
              select from deliveries e
              where e.recipient = d.recipient and e.sender = d.sender and e.room = d.room
                and e.state in ('accepted', 'dispatched') and e.seq < d.seq)
        returning d.* into v_delivery;
        if not found then
            select * into v_delivery from deliveries where seq = v_seq and recipient = v_me;
            if not found then
                raise exception 'Delivery % is not yours', v_seq using errcode = 'SW006';
            end if;
            status := case
                when v_delivery.state = 'handled' then 'duplicate'
                when v_delivery.state in ('expired', 'dead') then 'stale'
                when v_delivery.kind = 'task' and v_delivery.attempts <> v_attempt then 'stale'
                else 'out_of_order' end;
            return;
        end if;
        if v_dead is not null then
            if v_delivery.kind = 'task' then
                perform end_task(task_of(v_delivery.room), 'failed', v_dead);
            else
                perform send_notice(v_delivery);
            end if;
            recipients := array(select name from agents where id = v_delivery.sender and not reserved);
            status := 'committed';
            return;
        end if;
    end if;

    if jsonb_array_length(p_turn -> 'memories') > 0 then
        insert into memories (id, agent, room, entity, kind, content, created_at)
        select m.id, v_me, m.room, m.entity, m.kind, m.content, coalesce(nullif(m.created_at, 0), v_now)
        from jsonb_to_recordset(p_turn -> 'memories')
             as m (id uuid, room text, entity text, kind text, content jsonb, created_at bigint)
        on conflict do nothing;
    end if;

    if jsonb_array_length(p_turn -> 'outgoing') > 0 then
        select a.names, a.dead into recipients, dead from accept_messages(v_me, p_turn -> 'outgoing', false, v_seq) a;
    end if;

    if v_outcome is not null then
        v_name := settle_task(v_me, v_outcome, v_delivery.room, p_turn ->> 'instance');
        if v_name is not null then
            recipients := recipients || v_name;
        end if;
    elsif v_delivery.kind = 'task' then
        perform expect_outcome(task_of(v_delivery.room));
    end if;
    status := 'committed';
end $$;
