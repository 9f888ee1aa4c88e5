-- The life of a task after it was accepted: its states, attempts that go again, input asked for and given,
-- cancelling with all that is below it, giving it again by hand.

-- The automaton, in this one place. docs/design.md draws it; swarm/records.py has the same table for the memory store.
create function task_may_become(p_old text, p_new text) returns boolean language sql immutable
as $$
    select case p_old
        when 'submitted' then p_new in ('working', 'failed', 'canceled', 'rejected')
        when 'working' then p_new in ('submitted', 'input-required', 'completed', 'failed', 'canceled', 'rejected')
        when 'input-required' then p_new in ('working', 'failed', 'canceled', 'rejected')
        else false
    end
$$;

-- Every change of a task comes through here, an agent's own too: times only grow, whoever writes them.
create function task_changes() returns trigger language plpgsql set search_path from current
as $$
begin
    new.updated_at := greatest(old.updated_at, now_ms());
    if new.state <> old.state then
        if not task_may_become(old.state, new.state) then
            raise exception 'Task % is %; it cannot become %', old.id, old.state, new.state using errcode = 'SW010';
        end if;
        if new.state = 'working' then
            new.begun_at := coalesce(old.begun_at, new.updated_at);
        elsif new.state in ('completed', 'failed', 'canceled', 'rejected') then
            new.ended_at := new.updated_at;
        end if;
    end if;
    return new;
end $$;
create trigger task_changes before update on tasks for each row execute function task_changes();

-- When what was delegated for a task has lost its purpose, it is cancelled: a completed task leaves its own to go on.
create function end_subtasks(p_task tasks) returns void language plpgsql
as $$
declare
    v_sub uuid;
begin
    if p_task.state = 'completed' then
        return;
    end if;
    for v_sub in
        select id from tasks
        where parent_task = p_task.id and state in ('submitted', 'working', 'input-required') order by id
    loop
        perform end_task(v_sub, 'canceled', format('the task above it is %s', p_task.state));
    end loop;
end $$;

-- Ask whoever gave the task. Returns its name, null for the operator, who looks for himself.
create function send_question(p_task tasks) returns text language plpgsql
as $$
declare
    v_number integer := jsonb_array_length(p_task.inputs) - 1;
    v_asked jsonb := p_task.inputs -> v_number;
    v_id uuid := derived_uuid(format('question:%s:%s', p_task.id, v_number));
    v_parent agents;
begin
    select * into v_parent from agents where id = p_task.parent;
    if v_parent.reserved then
        return null;
    end if;
    insert into messages (id, sender, address, room, kind, content, in_reply_to, hops, traceparent, accepted_at)
    values (v_id, p_task.child, v_parent.name, 'task:' || p_task.id, 'result',
            jsonb_build_object('text', v_asked ->> 'question', 'data', jsonb_build_object(
                'task', p_task.id, 'state', p_task.state, 'question', v_asked ->> 'question', 'schema', v_asked -> 'schema')),
            p_task.id::text, least(p_task.hops + 1, 32), p_task.traceparent, now_ms())
    on conflict do nothing;
    insert into deliveries (message, sender, recipient, room, kind, accepted_at)
    values (v_id, p_task.child, v_parent.id, 'task:' || p_task.id, 'result', now_ms())
    on conflict do nothing;
    return v_parent.name;
end $$;

-- All messages that the ledger has made, or may have made, in a task's room.
create function messages_of_task(p_task uuid) returns setof uuid language sql stable
as $$
    select p_task
    union all
    select derived_uuid('result:' || p_task)
    union all
    select derived_uuid(format('attempt:%s:%s', t.id, n))
    from tasks t, generate_series(1, t.failures) n where t.id = p_task
    union all
    select derived_uuid(format('%s:%s:%s', what, t.id, n))
    from tasks t, unnest(array['question', 'input']) what, generate_series(0, jsonb_array_length(t.inputs) - 1) n
    where t.id = p_task
$$;

-- What a turn says about its task: it ends, goes again later, or asks. `p_room` is that of the turn's delivery. A task
-- that is not working is left as it is. Returns who is told.
create function settle_task(p_me uuid, p_outcome jsonb, p_room text, p_instance text) returns text language plpgsql
as $$
declare
    v_task tasks;
    v_state text := p_outcome ->> 'state';
    v_error text := p_outcome ->> 'error';
    v_now bigint := now_ms();
begin
    select * into v_task from tasks where id = (p_outcome ->> 'task')::uuid and child = p_me;
    if not found then
        return null;
    end if;
    if coalesce(v_state, '') not in ('completed', 'failed', 'rejected', 'input-required') then
        raise exception 'An outcome is completed, failed, rejected or input-required' using errcode = 'SW007';
    end if;
    if p_room is distinct from 'task:' || v_task.id then  -- a later turn, its subtasks' results have come in
        update deliveries set state = 'handled', handled_at = v_now, handled_by = p_instance
        where recipient = p_me and sender = v_task.parent and room = 'task:' || v_task.id and kind = 'task'
          and state in ('accepted', 'dispatched');
    end if;
    select * into v_task from tasks where id = v_task.id for update;
    if v_task.state <> 'working' then
        return null;
    end if;
    if v_state = 'input-required' and jsonb_array_length(v_task.inputs) >= 32 then
        v_state := 'failed';
        v_error := 'it asked for input 32 times';
    end if;
    if v_state = 'failed' and (p_outcome ->> 'retryable')::boolean and v_task.failures + 1 < v_task.max_attempts then
        update tasks
        set state = 'submitted', failures = failures + 1, error = v_error,
            wake_at = v_now + coalesce((p_outcome ->> 'retry_ms')::bigint, least(60000, 1000 * 2 ^ failures)::bigint)
        where id = v_task.id;
        return null;
    end if;
    if v_state = 'input-required' then
        update tasks
        set state = v_state, wake_at = v_now + 7 * 86400000::bigint,
            inputs = inputs || jsonb_build_array(jsonb_build_object(
                'question', p_outcome ->> 'question', 'schema', p_outcome -> 'schema',
                'actions', coalesce(p_outcome -> 'actions', '[]'), 'asked_at', v_now))
        where id = v_task.id returning * into v_task;
        return send_question(v_task);
    end if;
    update tasks
    set state = v_state, error = v_error, wake_at = null,
        result = case when v_state = 'completed' then coalesce(nullif(p_outcome -> 'result', 'null'::jsonb), '{}') end
    where id = v_task.id returning * into v_task;
    perform end_subtasks(v_task);
    return send_result(v_task, p_me);
end $$;

-- The turn of a task ended without a word about it: a later one may have it, but not for ever.
create function expect_outcome(p_task uuid) returns void language sql
as $$ update tasks set wake_at = now_ms() + 7 * 86400000::bigint where id = p_task and state = 'working' $$;

-- Tasks whose moment has come: another attempt, or the end of a waiting that nobody ended. Returns whom to ring.
create function wake_tasks(p_epoch bigint) returns text[] language plpgsql
as $$
declare
    v_task tasks;
    v_sender agents;
    v_child agents;
    v_names text[] := '{}';
begin
    perform check_lease(p_epoch);
    for v_task in
        select * from tasks where wake_at <= now_ms() order by wake_at limit 1000 for update skip locked
    loop
        select * into v_sender from agents where id = v_task.parent;
        select * into v_child from agents where id = v_task.child;
        if v_task.state = 'working' then
            perform end_task(v_task.id, 'failed', 'its turn ended without an outcome, and no other brought one');
        elsif v_task.state = 'input-required' then
            perform end_task(v_task.id, 'failed', 'nobody answered its question within 7 days');
        elsif not may_delegate(v_sender, v_child) then
            perform end_task(v_task.id, 'rejected', 'No authority over this agent');
        else
            update tasks set wake_at = null where id = v_task.id;
            perform post_task(v_task, derived_uuid(format('attempt:%s:%s', v_task.id, v_task.failures)));
        end if;
        v_names := v_names || v_child.name || v_sender.name;
    end loop;
    if v_names <> '{}' then
        perform hold_lease(p_epoch);
    end if;
    return v_names;
end $$;

-- Who may cancel, answer and give again: whoever gave the task or one above it, the operator, and the agents above
-- the child that may control their children.
create function is_over_task(p_by uuid, p_task tasks) returns boolean language sql stable
as $$
    with recursive above(id, parent, parent_task) as (
        select t.id, t.parent, t.parent_task from tasks t where t.id = p_task.id
        union
        select t.id, t.parent, t.parent_task from above a join tasks t on t.id = a.parent_task
    ), elders(id, parent, control_children) as (
        select p.id, p.parent, p.control_children from agents c join agents p on p.id = c.parent where c.id = p_task.child
        union
        select p.id, p.parent, p.control_children from elders e join agents p on p.id = e.parent
    )
    select exists (select from agents where id = p_by and name = 'operator')
        or exists (select from above where parent = p_by)
        or exists (select from elders where id = p_by and control_children)
$$;

-- The task, locked, if `p_by` may decide over it.
create function task_under(p_by uuid, p_task uuid) returns tasks language plpgsql
as $$
declare
    v_task tasks;
begin
    select * into v_task from tasks where id = p_task;
    if not found then
        raise exception '%', p_task using errcode = 'SW008';
    end if;
    if not is_over_task(p_by, v_task) then
        raise exception 'No authority over this agent' using errcode = 'SW003';
    end if;
    return v_task;
end $$;

-- The agents that a change of this task concerns, itself and all below: children, and those who gave them.
create function names_around(p_task uuid) returns text[] language sql stable
as $$
    with recursive tree(id, parent, child) as (
        select t.id, t.parent, t.child from tasks t where t.id = p_task
        union
        select t.id, t.parent, t.child from tree b join tasks t on t.parent_task = b.id
    )
    select coalesce(array_agg(distinct a.name), '{}')
    from tree t join agents a on a.id in (t.parent, t.child) where not a.reserved
$$;

-- Cancel a task and all below it. One that has ended stays as it ended.
create function cancel_task(p_by uuid, p_task uuid, p_reason text, out task task_list, out names text[]) language plpgsql
as $$
begin
    perform task_under(p_by, p_task);
    perform end_task(p_task, 'canceled', format('canceled by %s', (select name from agents where id = p_by))
                     || coalesce(': ' || nullif(p_reason, ''), ''));
    select * into task from task_list where id = p_task;
    names := names_around(p_task);
end $$;

-- Answer what a task asked for; it goes on at once. The same answer again changes nothing.
create function answer_task(p_by uuid, p_task uuid, p_answer jsonb, out task task_list, out names text[]) language plpgsql
as $$
declare
    v_task tasks := task_under(p_by, p_task);
    v_number integer;
begin
    select * into v_task from tasks where id = p_task for update;
    v_number := jsonb_array_length(v_task.inputs) - 1;
    if v_task.state = 'input-required' then
        if octet_length(v_task.inputs::text) + octet_length(p_answer::text) > 200000 then
            raise exception 'The answers to task % come to more than 200,000 bytes; put this one in a file and say where it is',
                p_task using errcode = 'SW009';
        end if;
        update tasks
        set state = 'working', wake_at = null,
            inputs = jsonb_set(inputs, array[v_number::text], inputs -> v_number || jsonb_build_object(
                'answer', p_answer, 'answered_at', now_ms(), 'answered_by', (select name from agents where id = p_by)))
        where id = p_task returning * into v_task;
        perform post_task(v_task, derived_uuid(format('input:%s:%s', p_task, v_number)));
    elsif v_task.inputs -> v_number -> 'answer' is distinct from p_answer then
        raise exception 'Task % is %; it asks for nothing', p_task, v_task.state using errcode = 'SW009';
    end if;
    select * into task from task_list where id = p_task;
    names := array[task.child];
end $$;

-- Give a task that did not complete once more: a new one, under whoever gave it and with today's authority. Doing it
-- again finds the same one.
create function retry_task(p_by uuid, p_task uuid, out task task_list, out names text[]) language plpgsql
as $$
declare
    v_task tasks := task_under(p_by, p_task);
    v_id uuid := derived_uuid('retry:' || p_task);
begin
    if not exists (select from tasks where id = v_id) then
        if v_task.state not in ('failed', 'canceled', 'rejected') then
            raise exception 'Task % is %; only one that failed, was canceled or rejected is given again', p_task, v_task.state
                using errcode = 'SW009';
        elsif v_task.retries >= 10 then
            raise exception 'Task % has been given again 10 times; mend what is wrong and delegate it anew', p_task
                using errcode = 'SW009';
        end if;
        perform accept_tasks(v_task.parent, jsonb_build_array(jsonb_build_object(
            'id', v_id, 'child', v_task.child, 'goal', v_task.goal, 'input', v_task.input,
            'max_attempts', v_task.max_attempts, 'deadline', now_ms() + v_task.deadline - v_task.created_at,
            'parent_task', (select id from tasks where id = v_task.parent_task
                            and state in ('submitted', 'working', 'input-required')),
            'hops', v_task.hops, 'traceparent', v_task.traceparent)));
        update tasks set retry_of = p_task, retries = v_task.retries + 1 where id = v_id;
    end if;
    select * into task from task_list where id = v_id;
    names := array[task.child];
end $$;

-- The doors: agents act for themselves, the coordinator for whom it was asked by.
create function cancel_given(p_task uuid, p_reason text, out task task_list, out names text[])
language plpgsql security definer set search_path from current
as $$
declare
    v record;
begin
    select * into v from cancel_task(require_agent(), p_task, p_reason);
    task := v.task;
    names := v.names;
end $$;

create function answer_given(p_task uuid, p_answer jsonb, out task task_list, out names text[])
language plpgsql security definer set search_path from current
as $$
declare
    v record;
begin
    select * into v from answer_task(require_agent(), p_task, p_answer);
    task := v.task;
    names := v.names;
end $$;

create function cancel_for(p_epoch bigint, p_by uuid, p_task uuid, p_reason text, out task task_list, out names text[])
language plpgsql
as $$
declare
    v record;
begin
    perform hold_lease(p_epoch);
    select * into v from cancel_task(p_by, p_task, p_reason);
    task := v.task;
    names := v.names;
end $$;

create function answer_for(p_epoch bigint, p_by uuid, p_task uuid, p_answer jsonb, out task task_list, out names text[])
language plpgsql
as $$
declare
    v record;
begin
    perform hold_lease(p_epoch);
    select * into v from answer_task(p_by, p_task, p_answer);
    task := v.task;
    names := v.names;
end $$;

create function retry_for(p_epoch bigint, p_by uuid, p_task uuid, out task task_list, out names text[])
language plpgsql
as $$
declare
    v record;
begin
    perform hold_lease(p_epoch);
    select * into v from retry_task(p_by, p_task);
    task := v.task;
    names := v.names;
end $$;

revoke all on all functions in schema :"schema" from public;
grant execute on function cancel_given(uuid, text), answer_given(uuid, jsonb) to :"agents";
