-- Delegation: a task is a row, a message to the child and its delivery, made in one transaction.

-- A task with names in place of ids, as the values in records.py have it.
create view task_list with (security_invoker = true) as
select t.id, p.name as parent, c.name as child, t.goal, t.state, t.input, t.attempts, t.result, t.error, t.progress,
       t.note, t.deadline, t.parent_task, t.created_at, t.updated_at
from tasks t join agents p on p.id = t.parent join agents c on c.id = t.child;

-- Post a task's outcome to whoever gave it, as `p_sender`. Returns the name of who gets it, null for the operator.
create function send_result(p_task tasks, p_sender uuid) returns text language plpgsql
as $$
declare
    v_id uuid := derived_uuid('result:' || p_task.id);
    v_parent agents;
    v_now bigint := now_ms();
begin
    select * into v_parent from agents where id = p_task.parent;
    if v_parent.reserved then
        return null;
    end if;
    insert into messages (id, sender, address, room, kind, content, in_reply_to, hops, traceparent, accepted_at)
    values (v_id, p_sender, v_parent.name, 'task:' || p_task.id, 'result',
            jsonb_build_object(
                'text', coalesce(p_task.result ->> 'text', p_task.error, ''),
                'data', jsonb_build_object('task', p_task.id, 'state', p_task.state, 'error', p_task.error,
                                           'result', coalesce(p_task.result -> 'data', '{}'::jsonb)),
                'metadata', coalesce(p_task.result -> 'metadata', '{}'::jsonb)),
            p_task.id::text, least(p_task.hops + 1, 32), p_task.traceparent, v_now)
    on conflict do nothing;
    insert into deliveries (message, sender, recipient, room, kind, accepted_at)
    values (v_id, p_sender, v_parent.id, 'task:' || p_task.id, 'result', v_now)
    on conflict do nothing;
    return v_parent.name;
end $$;

-- The coordinator ends a task that nobody completed. Returns whether it was open until now.
create function end_task(p_task uuid, p_state text, p_error text) returns boolean language plpgsql
as $$
declare
    v_task tasks;
begin
    update tasks set state = p_state, error = p_error, updated_at = now_ms()
    where id = p_task and state in ('submitted', 'working', 'input-required')
    returning * into v_task;
    if not found then
        return false;
    end if;
    perform send_result(v_task, (select id from agents where name = 'coordinator'));
    return true;
end $$;

-- End an open delivery as expired or dead; its task fails with it, or its sender gets a notice.
create function end_delivery(p_seq bigint, p_state text, p_reason text, p_task_state text default 'failed')
returns boolean language plpgsql
as $$
declare
    v_delivery deliveries;
begin
    update deliveries set state = p_state, reason = p_reason, ended_at = now_ms()
    where seq = p_seq and state in ('accepted', 'dispatched')
    returning * into v_delivery;
    if not found then
        return false;
    end if;
    if v_delivery.kind = 'task' then
        perform end_task(v_delivery.message, p_task_state, p_reason);
    else
        perform send_notice(v_delivery);
    end if;
    return true;
end $$;

-- Accept tasks from `p_sender`. Authority is read under a lock, so that it is valid when this commits.
create function accept_tasks(p_sender uuid, p_tasks jsonb) returns setof task_list language plpgsql
as $$
declare
    v_new record;
    v_sender agents;
    v_child agents;
    v_now bigint := now_ms();
begin
    select * into v_sender from agents where id = p_sender for share;
    for v_new in
        select * from jsonb_to_recordset(p_tasks) as t (id uuid, child text, goal text, input jsonb, deadline bigint,
            max_attempts integer, parent_task uuid, hops integer, traceparent text)
    loop
        select * into v_child from agents
        where name = v_new.child or id::text = lower(v_new.child) for share;
        if not found or v_child.reserved then
            raise exception '%', v_new.child using errcode = 'SW002';
        end if;
        if v_sender.name <> 'operator'
           and (v_child.parent is distinct from p_sender or not v_sender.control_children) then
            raise exception 'No authority over this agent' using errcode = 'SW003';
        end if;
        if v_new.parent_task is not null and not exists (
            select from tasks where id = v_new.parent_task and (child = p_sender or v_sender.name = 'operator')
        ) then
            raise exception 'Task % is not in your hands', v_new.parent_task using errcode = 'SW003';
        end if;
        insert into tasks (id, parent, child, goal, input, max_attempts, deadline, parent_task, hops, traceparent,
                           created_at, updated_at)
        values (v_new.id, p_sender, v_child.id, v_new.goal, coalesce(v_new.input, '{}'), coalesce(v_new.max_attempts, 3),
                v_new.deadline, v_new.parent_task, coalesce(v_new.hops, 0), v_new.traceparent, v_now, v_now)
        on conflict do nothing;
        if not found then
            if not exists (select from tasks where id = v_new.id and parent = p_sender) then
                raise exception 'The id % is taken by another task', v_new.id using errcode = 'SW004';
            end if;
            continue;
        end if;
        insert into messages (id, sender, address, room, kind, content, expires_at, hops, traceparent, accepted_at)
        values (v_new.id, p_sender, v_child.name, 'task:' || v_new.id, 'task',
                jsonb_build_object('text', v_new.goal, 'data', jsonb_build_object(
                    'task', v_new.id, 'input', coalesce(v_new.input, '{}'), 'deadline', v_new.deadline,
                    'parent_task', v_new.parent_task, 'max_attempts', coalesce(v_new.max_attempts, 3))),
                v_new.deadline, coalesce(v_new.hops, 0), v_new.traceparent, v_now);
        insert into deliveries (message, sender, recipient, room, kind, expires_at, accepted_at)
        values (v_new.id, p_sender, v_child.id, 'task:' || v_new.id, 'task', v_new.deadline, v_now);
    end loop;
    return query
        select l.* from rows from (jsonb_to_recordset(p_tasks) as (id uuid)) with ordinality as g (id, ord)
        join task_list l on l.id = g.id order by g.ord;
end $$;

-- Store.delegate: the agent that is logged in is the authority.
create function delegate_tasks(p_tasks jsonb) returns setof task_list
language plpgsql security definer set search_path from current
as $$
begin
    return query select * from accept_tasks(require_agent(), p_tasks);
end $$;
