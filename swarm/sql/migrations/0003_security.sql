-- Who may do what. An agent logs in with its own role, named '<schema>.<agent id>'; everything is derived
-- from session_user, which SET ROLE, SET and SECURITY DEFINER leave alone. The ledger's tables are only
-- read by agents, row by row; they are written by functions that act for the agent that is logged in.

-- :"schema" and :"agents" stand for the swarm's schema and the role that all of its agents are members of.

do $$
begin
    create role :"agents" nologin;
exception when duplicate_object or unique_violation then null;  -- roles are the cluster's: another database has it
end $$;
grant usage on schema :"schema" to :"agents";

-- The agent that is logged in; null for an owner or an administrator.
create function me() returns uuid language sql stable parallel safe set search_path from current
as $$
    select case when session_user ~ '^[^.]+\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
                 and split_part(session_user, '.', 1) = current_schema()
                then split_part(session_user, '.', 2)::uuid end
$$;

-- Whose memories the agent may read: its own, and its parent's if it was given that right and is still its child.
create function readable() returns uuid[] language sql stable security definer set search_path from current
as $$
    select array_remove(array[a.id, case when a.access_parent_memory and a.planned then a.parent end], null)
    from agents a where a.id = me()
$$;

-- The rooms that the agent takes part in. Security definer: the policy on participants asks it.
create function my_rooms() returns text[] language sql stable security definer set search_path from current
as $$ select coalesce(array_agg(room), '{}') from participants where agent = me() $$;

create function require_agent() returns uuid language plpgsql stable set search_path from current
as $$
begin
    if me() is null then
        raise exception 'This is done by agents, and % is not one', session_user using errcode = 'insufficient_privilege';
    end if;
    return me();
end $$;

do $$
declare
    t text;
begin
    foreach t in array array['agents', 'groups', 'characters', 'lease', 'messages', 'deliveries', 'tasks', 'memories',
                             'embeddings', 'participants'] loop
        execute format('alter table %I enable row level security', t);
        execute format('alter table %I force row level security', t);
        execute format('create policy owner on %I to current_user using (true) with check (true)', t);
    end loop;
end $$;

create policy directory on agents for select using (true);
create policy directory on groups for select using (true);
create policy own_status on agents for update using (id = (select me())) with check (id = (select me()));
create policy public_documents on characters for select using (true);
create policy own_deliveries on deliveries for select
    using (recipient = (select me()) or sender = (select me()));
create policy own_messages on messages for select
    using (sender = (select me()) or exists (
        select from deliveries d
        where d.message = messages.id and d.sender = messages.sender and d.recipient = (select me())));
create policy own_tasks on tasks for select using (child = (select me()) or parent = (select me()));
create policy own_progress on tasks for update
    using (child = (select me()) and state = 'working') with check (child = (select me()) and state = 'working');
create policy readable_memories on memories for select using (agent = any ((select readable())::uuid[]));
create policy own_memories on memories for insert with check (agent = (select me()));
create policy readable_embeddings on embeddings for select using (agent = any ((select readable())::uuid[]));
create policy new_embeddings on embeddings for insert with check (agent = (select me()));
create policy own_embeddings on embeddings for update using (agent = (select me())) with check (agent = (select me()));
create policy same_room on participants for select
    using (agent = (select me()) or room = any ((select my_rooms())::text[]));
create policy joining on participants for insert with check (agent = (select me()));
create policy own_part on participants for update using (agent = (select me())) with check (agent = (select me()));
create policy leaving on participants for delete using (agent = (select me()));
-- lease: no policy for agents.
