-- Delegation: a task is a row, a message to the child and its delivery, made in one transaction.

-- A task with names in place of ids, as the values in records.py have it.
create view task_list with (security_invoker = true) as
select t.id, p.name as parent, c.name as child, t.goal, t.state, t.input, t.attempts, t.result, t.error, t.progress,
       t.note, t.deadline, t.parent_task, t.created_at, t.updated_at, t.max_attempts, t.failures, t.inputs, t.wake_at,
       t.retry_of, t.begun_at, t.ended_at
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

-- The task that a room belongs to, null for other rooms.
create function task_of(p_room text) returns uuid language sql immutable parallel safe
as $$ select case when p_room ~ '^task:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then substr(p_room, 6)::uuid end $$;

-- What a task has on its way is dead with it.
create function end_deliveries_of(p_task tasks, p_reason text) returns void language sql
as $$
    update deliveries set state = 'dead', reason = p_reason, ended_at = now_ms()
    where recipient = p_task.child and sender = p_task.parent and room = 'task:' || p_task.id and kind = 'task'
      and state in ('accepted', 'dispatched')
$$;

-- End a task that nobody completed, and what was delegated in its course. Returns whether it was open until now.
create function end_task(p_task uuid, p_state text, p_error text) returns boolean language plpgsql
as $$
declare
    v_task tasks;
begin
    -- Deliveries before tasks, and those above before those below: the order of every transaction that ends one.
    select * into v_task from tasks where id = p_task;
    perform end_deliveries_of(v_task, p_error);
    update tasks set state = p_state, error = p_error, wake_at = null
    where id = p_task and state in ('submitted', 'working', 'input-required')
    returning * into v_task;
    if not found then
        return false;
    end if;
    perform end_deliveries_of(v_task, p_error);  -- an answer may have come in between
    perform send_result(v_task, (select id from agents where name = 'coordinator'));
    perform end_subtasks(v_task);
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
        perform end_task(task_of(v_delivery.room), p_task_state, p_reason);
    else
        perform send_notice(v_delivery);
    end if;
    return true;
end $$;

-- Whether the one may give tasks to the other: the operator, or a parent with that right.
create function may_delegate(p_sender agents, p_child agents) returns boolean language sql immutable
as $$
    select p_sender.name = 'operator'
        or (p_child.parent = p_sender.id and p_sender.control_children and p_child.planned and p_sender.planned) is true
$$;

-- Put a task on its way to the child as `p_message`: the first time under its own id, then as often as it goes again.
-- Its attempts go on counting, so that an earlier one stays stale.
create function post_task(p_task tasks, p_message uuid) returns void language plpgsql
as $$
declare
    v_now bigint := now_ms();
    v_actions jsonb := p_task.inputs -> -1 -> 'actions';
begin
    insert into messages (id, sender, address, room, kind, content, expires_at, hops, traceparent, accepted_at)
    values (p_message, p_task.parent, (select name from agents where id = p_task.child), 'task:' || p_task.id, 'task',
            jsonb_build_object('text', p_task.goal, 'data', jsonb_build_object(
                'task', p_task.id, 'input', p_task.input, 'deadline', p_task.deadline,
                'parent_task', p_task.parent_task, 'max_attempts', p_task.max_attempts)
                || case when p_task.inputs = '[]' then '{}' else jsonb_build_object('inputs', p_task.inputs) end
                || case when jsonb_array_length(v_actions) > 0 then jsonb_build_object('action', v_actions) else '{}' end),
            p_task.deadline, p_task.hops, p_task.traceparent, v_now);
    insert into deliveries (message, sender, recipient, room, kind, bytes, attempts, expires_at, accepted_at)
    select p_message, p_task.parent, p_task.child, 'task:' || p_task.id, 'task', octet_length(m.content::text),
           p_task.attempts, p_task.deadline, v_now
    from messages m where m.id = p_message and m.sender = p_task.parent;
end $$;

-- Accept tasks from `p_sender`. Authority is read under a lock, so that it is valid when this commits.
create function accept_tasks(p_sender uuid, p_tasks jsonb) returns setof task_list language plpgsql
as $$
declare
    v_new record;
    v_sender agents;
    v_child agents;
    v_task tasks;
    v_above text;
    v_full text;
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
        if not may_delegate(v_sender, v_child) then
            raise exception 'No authority over this agent' using errcode = 'SW003';
        end if;
        select * into v_task from tasks where id = v_new.id;
        if found then
            if v_task.parent <> p_sender then
                raise exception 'The id % is taken by another task', v_new.id using errcode = 'SW004';
            elsif (v_task.child, v_task.goal, v_task.input) is distinct from
                  (v_child.id, v_new.goal, coalesce(v_new.input, '{}')) then
                raise exception 'Task % was given before, with another child, goal or input; give what differs an id of its own',
                    v_new.id using errcode = 'SW004';
            end if;
            continue;
        end if;
        if v_new.parent_task is not null then
            select state into v_above from tasks  -- locked: it cannot end, and miss this one, until we have committed
            where id = v_new.parent_task and (child = p_sender or v_sender.name = 'operator') for share;
            if not found then
                raise exception 'Task % is not in your hands', v_new.parent_task using errcode = 'SW003';
            elsif v_above in ('completed', 'failed', 'canceled', 'rejected') then
                raise exception 'Task % is %; nothing more is delegated in its course', v_new.parent_task, v_above
                    using errcode = 'SW009';
            end if;
        end if;
        insert into tasks (id, parent, child, goal, input, max_attempts, deadline, parent_task, hops, traceparent,
                           created_at, updated_at)
        values (v_new.id, p_sender, v_child.id, v_new.goal, coalesce(v_new.input, '{}'), coalesce(v_new.max_attempts, 3),
                v_new.deadline, v_new.parent_task, coalesce(v_new.hops, 0), v_new.traceparent, v_now, v_now)
        on conflict do nothing returning * into v_task;
        if not found then  -- another connection has just given it: the whole call is tried again, and finds it
            raise exception 'The task % is being accepted', v_new.id using errcode = 'serialization_failure';
        end if;
        v_full := inbox_full(v_child.id, v_child.name, v_child.inbox_messages, v_child.inbox_bytes, 1,
                             octet_length(v_task.input::text));
        if v_full is not null then
            raise exception '%', v_full using errcode = 'SW030', detail = v_child.name;
        end if;
        perform post_task(v_task, v_task.id);
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
