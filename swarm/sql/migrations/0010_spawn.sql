-- The hierarchy: children that are made at run time, rights that never exceed the parent's, bounds, and what
-- becomes of the children of a parent that died. Who decides is the coordinator, for an agent that the bus's server
-- has named or for the operator; each function takes the epoch of its lease (0007_coordination.sql). They look at the
-- lease first and hold it last: who waits here for a lock must not keep its row from being renewed.

alter table agents
    add column granted  jsonb not null default '{}',  -- rights as declared; the columns hold what is left of them
    add column orphans  text not null default 'keep' check (orphans in ('stop', 'reparent', 'keep')),
    add column died_at  bigint,                       -- dead, and its orphans are dealt with
    add column orphaned boolean not null default false;  -- stopped because its parent died; starts again with it

-- Agents that are in no swarm file. `born_of` is the parent at birth: what they inherit comes from there.
create table spawned (
    agent      uuid primary key references agents (id),
    born_of    uuid not null references agents (id),
    version    text not null,                 -- of the character that was given
    secrets    text[] not null default '{}',  -- names only: what the parent hands down
    created_at bigint not null default now_ms()
);
create index spawned_born_of on spawned (born_of);

create table limits (
    one      boolean primary key default true check (one),
    depth    integer not null default 8 check (depth >= 0),      -- generations below a root
    children integer not null default 100 check (children >= 0)  -- of one parent
);
insert into limits default values;

alter table spawned enable row level security;
alter table spawned force row level security;
alter table limits enable row level security;
alter table limits force row level security;
create policy owner on spawned to current_user using (true) with check (true);
create policy owner on limits to current_user using (true) with check (true);
create policy directory on spawned for select using (true);

-- An agent has a right when it was declared for it and everyone above has it. Kept in the columns of agents, so that
-- row security and the turn's commit read one row; so a right that is taken is gone from the subtree at once.
create function settle_rights() returns void language plpgsql
as $$
begin
    with recursive settled (id, creates, controls, reads, announces) as (
        select a.id, coalesce((a.granted ->> 'create_children')::boolean, false),
               coalesce((a.granted ->> 'control_children')::boolean, false),
               coalesce((a.granted ->> 'access_parent_memory')::boolean, true),
               coalesce((a.granted ->> 'announce')::boolean, false)
        from agents a where a.parent is null and not a.reserved
        union all
        select a.id, s.creates and coalesce((a.granted ->> 'create_children')::boolean, false),
               s.controls and coalesce((a.granted ->> 'control_children')::boolean, false),
               s.reads and coalesce((a.granted ->> 'access_parent_memory')::boolean, true),
               s.announces and coalesce((a.granted ->> 'announce')::boolean, false)
        from settled s join agents a on a.parent = s.id
    )
    update agents a
    set create_children = s.creates, control_children = s.controls, access_parent_memory = s.reads,
        announce = s.announces, updated_at = now_ms()
    from settled s
    where a.id = s.id
      and (a.create_children, a.control_children, a.access_parent_memory, a.announce)
          is distinct from (s.creates, s.controls, s.reads, s.announces);
    perform reject_without_authority();
end $$;

-- Authority is checked at assignment too: what waits without it any more goes no further.
create function reject_without_authority() returns void language plpgsql
as $$
declare
    v_row record;
begin
    for v_row in
        select d.seq from deliveries d
        join agents p on p.id = d.sender join agents c on c.id = d.recipient
        where d.state = 'accepted' and d.kind = 'task' and p.name <> 'operator'
          and (c.parent is distinct from p.id or not p.control_children)
        order by d.seq for update of d
    loop
        perform end_delivery(v_row.seq, 'dead', 'No authority over this agent', 'rejected');
    end loop;
end $$;

-- The generations above an agent: 0 for a root. The bound stops a circle, which nothing here makes.
create function depth_of(p_agent uuid) returns integer language sql stable
as $$
    with recursive up (id, depth) as (
        select parent, 1 from agents where id = p_agent and parent is not null
        union all
        select a.parent, u.depth + 1 from up u join agents a on a.id = u.id where a.parent is not null and u.depth < 1000
    )
    select coalesce(max(depth), 0) from up
$$;

-- The whole tree against its bounds, after a swarm file has been applied.
create function check_hierarchy() returns void language plpgsql
as $$
declare
    v_limits limits;
    v_row record;
begin
    select * into v_limits from limits;
    select a.name, depth_of(a.id) as depth into v_row from agents a
    where a.planned and a.parent is not null and depth_of(a.id) > v_limits.depth limit 1;
    if found then
        raise exception '% would be % generations below its root, and [limits] depth is %', v_row.name, v_row.depth,
            v_limits.depth using errcode = 'SW020';
    end if;
    select p.name, count(*) as children into v_row from agents a join agents p on p.id = a.parent
    where a.planned group by p.name having count(*) > v_limits.children limit 1;
    if found then
        raise exception '% would have % children, and [limits] children is %', v_row.name, v_row.children,
            v_limits.children using errcode = 'SW020';
    end if;
end $$;

-- Rights that a child is to have and its parent has not: the name of the first, null for none.
create function excess(p_parent agents, p_rights jsonb) returns text language sql immutable
as $$
    select r.name from jsonb_each(to_jsonb(p_parent)) as h (name, has)
    join jsonb_each(p_rights) as r (name, given) on r.name = h.name
    where r.given = 'true'::jsonb and h.has <> 'true'::jsonb order by r.name limit 1
$$;

-- Make a child of `p_parent`, or find it: the same name, id and character are the same child. True when it is new.
create function spawn_child(p_epoch bigint, p_parent text, p_child jsonb) returns boolean language plpgsql
as $$
declare
    v_id uuid := (p_child ->> 'id')::uuid;
    v_name text := p_child ->> 'name';
    v_rights jsonb := coalesce(p_child -> 'permissions', '{}');
    v_role text := current_schema() || '.' || v_id;
    v_parent agents;
    v_known agents;
    v_birth spawned;
    v_limits limits;
    v_right text;
    v_now bigint := now_ms();
begin
    perform check_lease(p_epoch);
    perform pg_advisory_xact_lock(hashtextextended('swarm provision ' || current_schema(), 0));
    select * into v_parent from agents where (name = p_parent or id::text = lower(p_parent)) and planned and not reserved
    for update;
    if not found then
        raise exception '%', p_parent using errcode = 'SW002';
    end if;
    if not v_parent.create_children then
        raise exception '% may not create children; it needs the right create_children', v_parent.name using errcode = 'SW003';
    end if;
    v_right := excess(v_parent, v_rights);
    if v_right is not null then
        raise exception '% would have %, which its parent % has not; a child''s rights never exceed its parent''s',
            v_name, v_right, v_parent.name using errcode = 'SW003';
    end if;
    select * into v_known from agents where name = v_name or id = v_id order by (name = v_name) desc limit 1;
    if found then
        if v_known.reserved or v_known.id <> v_id then
            raise exception 'The agent % is known under another id than %; one name is one character. Give the new one another name',
                v_name, v_id using errcode = 'SW004';
        elsif v_known.name <> v_name then
            raise exception 'The id % of % is taken by the agent %; give the character another name or id',
                v_id, v_name, v_known.name using errcode = 'SW004';
        end if;
        select * into v_birth from spawned where agent = v_id;
        if v_known.planned and not found then
            raise exception 'The agent % is in the swarm file already; give the child''s character another name', v_name
                using errcode = 'SW004';
        elsif v_known.planned and v_birth.version <> p_child ->> 'version' then
            raise exception 'The agent % lives with another character; remove it first, or give this one another name', v_name
                using errcode = 'SW004';
        elsif v_known.planned and v_birth.born_of <> v_parent.id then
            raise exception 'The agent % is a child of %; give this one another name', v_name,
                (select name from agents where id = v_birth.born_of) using errcode = 'SW004';
        elsif v_known.planned then
            return false;
        elsif exists (
            with recursive up (id) as (
                select v_parent.id union select a.parent from up u join agents a on a.id = u.id where a.parent is not null)
            select from up where id = v_id) then
            raise exception '% would be its own ancestor', v_name using errcode = 'SW020';
        end if;
    end if;
    select * into v_limits from limits;
    if depth_of(v_parent.id) >= v_limits.depth then
        raise exception '% is % generations below its root, which is the most that [limits] depth allows: it cannot have children',
            v_parent.name, depth_of(v_parent.id) using errcode = 'SW020';
    elsif (select count(*) from agents where parent = v_parent.id and planned) >= v_limits.children then
        raise exception '% has % children, which is the most that [limits] children allows; remove one first',
            v_parent.name, v_limits.children using errcode = 'SW020';
    elsif v_parent.desired = 'stopped' then  -- what becomes of its orphans is settled once
        raise exception '% is stopped, and a child is born to a parent that lives; start it first', v_parent.name
            using errcode = 'SW020';
    end if;

    insert into agents (id, name, created_at) values (v_id, v_name, v_now) on conflict do nothing;
    perform inherit_bounds(v_id, v_parent);
    update agents
    set planned = true, desired = 'running', orphaned = false, died_at = null, parent = v_parent.id,
        version = p_child ->> 'version', source = coalesce(p_child ->> 'source', ''), granted = v_rights,
        orphans = coalesce(p_child ->> 'orphans', 'keep'), replicas = 1, balance = 'room', updated_at = v_now,
        roles = array(select jsonb_array_elements_text(coalesce(p_child -> 'roles', '[]')))
    where id = v_id;
    insert into spawned (agent, born_of, version, secrets, created_at)
    values (v_id, v_parent.id, p_child ->> 'version',
            array(select jsonb_array_elements_text(coalesce(p_child -> 'secrets', '[]'))), v_now)
    on conflict (agent) do update
    set born_of = excluded.born_of, version = excluded.version, secrets = excluded.secrets, created_at = excluded.created_at;
    insert into characters (id, version, document, stored_at)
    values (v_id, p_child ->> 'version', p_child -> 'character', v_now)
    on conflict (id, version) do update set document = excluded.document, stored_at = excluded.stored_at;
    if not exists (select from pg_roles where rolname = v_role) then
        execute format('create role %I login in role %I', v_role, current_schema() || '.agents');
    else
        execute format('alter role %I login', v_role);
    end if;
    perform settle_rights();
    perform hold_lease(p_epoch);
    return true;
end $$;

-- The password of a spawned agent's role, as its node has derived it: a verifier, never the password.
create function set_verifier(p_epoch bigint, p_agent uuid, p_verifier text) returns boolean language plpgsql
as $$
begin
    perform check_lease(p_epoch);
    if p_verifier not like 'SCRAM-SHA-256$%'
       or not exists (select from spawned s join agents a on a.id = s.agent where s.agent = p_agent and a.planned) then
        return false;
    end if;
    execute format('alter role %I login password %L', current_schema() || '.' || p_agent, p_verifier);
    perform hold_lease(p_epoch);
    return true;
end $$;

-- Whether `p_parent` may stop, start, restart or remove `p_child`, its own child, now. Returns the child's name.
create function require_control(p_parent text, p_child text) returns text language plpgsql
as $$
declare
    v_parent agents;
    v_child agents;
begin
    select * into v_parent from agents where name = p_parent for share;
    select * into v_child from agents where (name = p_child or id::text = lower(p_child)) and not reserved and planned for share;
    if not found then
        raise exception 'Child agent % not found', p_child using errcode = 'SW021';
    end if;
    if v_child.parent is distinct from v_parent.id or not v_parent.control_children then
        raise exception 'No authority over this agent' using errcode = 'SW003';
    end if;
    return v_child.name;
end $$;

-- With null for `p_desired` only the right is checked. Returns the child's name.
create function command_child(p_epoch bigint, p_parent text, p_child text, p_desired text) returns text language plpgsql
as $$
declare
    v_name text;
begin
    perform check_lease(p_epoch);
    v_name := require_control(p_parent, p_child);
    if p_desired is null then
        perform hold_lease(p_epoch);
    else
        perform set_desired(p_epoch, v_name, p_desired);
    end if;
    return v_name;
end $$;

-- Take a spawned agent out of the swarm; its rows, its mail and its memories stay. `p_parent` null: the operator.
create function remove_child(p_epoch bigint, p_parent text, p_child text) returns text language plpgsql
as $$
declare
    v_name text := p_child;
    v_id uuid;
begin
    perform check_lease(p_epoch);
    if p_parent is not null then
        v_name := require_control(p_parent, p_child);
    end if;
    select id into v_id from agents where (name = v_name or id::text = lower(v_name)) and not reserved for update;
    if not found then
        raise exception '%', p_child using errcode = 'SW002';
    elsif not exists (select from spawned where agent = v_id) then
        raise exception 'The agent % is in the swarm file; take it out there and run swarm up', v_name using errcode = 'SW004';
    end if;
    update agents set planned = false, desired = 'stopped', orphaned = false, updated_at = now_ms()
    where id = v_id and planned;
    execute format('alter role %I nologin', current_schema() || '.' || v_id);
    perform reject_without_authority();
    perform hold_lease(p_epoch);
    return (select name from agents where id = v_id);
end $$;

-- Give or take rights of a spawned agent. Those of the others stand in the swarm file.
create function permit(p_epoch bigint, p_agent text, p_rights jsonb) returns void language plpgsql
as $$
declare
    v_agent agents;
    v_parent agents;
    v_right text;
begin
    perform check_lease(p_epoch);
    perform pg_advisory_xact_lock(hashtextextended('swarm provision ' || current_schema(), 0));
    select * into v_agent from agents where (name = p_agent or id::text = lower(p_agent)) and not reserved and planned for update;
    if not found then
        raise exception '%', p_agent using errcode = 'SW002';
    elsif not exists (select from spawned where agent = v_agent.id) then
        raise exception 'The rights of % stand in the swarm file; change them there and run swarm up', v_agent.name
            using errcode = 'SW004';
    end if;
    select * into v_parent from agents where id = v_agent.parent;
    v_right := case when found then excess(v_parent, p_rights) end;
    if v_right is not null then
        raise exception '% would have %, which its parent % has not; a child''s rights never exceed its parent''s',
            v_agent.name, v_right, v_parent.name using errcode = 'SW003';
    end if;
    update agents set granted = granted || p_rights, updated_at = now_ms() where id = v_agent.id;
    perform settle_rights();
    perform hold_lease(p_epoch);
end $$;

-- An agent is dead: its orphans stop, go to its own parent, or are kept, as it declares. Once for each death; returns
-- the names of those that this changed.
create function settle_death(p_epoch bigint, p_agent text) returns text[] language plpgsql
as $$
declare
    v_dead agents;
    v_names text[] := '{}';
begin
    perform check_lease(p_epoch);
    update agents set died_at = now_ms() where name = p_agent and not reserved and died_at is null returning * into v_dead;
    if not found then
        return v_names;
    end if;
    if v_dead.orphans = 'stop' then
        with stopped as (
            update agents set desired = 'stopped', orphaned = true, updated_at = now_ms()
            where parent = v_dead.id and planned and desired = 'running' returning name)
        select coalesce(array_agg(name order by name), '{}') into v_names from stopped;
    elsif v_dead.orphans = 'reparent' then
        with moved as (
            update agents set parent = v_dead.parent, updated_at = now_ms()
            where parent = v_dead.id and planned returning name)
        select coalesce(array_agg(name order by name), '{}') into v_names from moved;
        perform settle_rights();
    end if;
    perform hold_lease(p_epoch);
    return v_names;
end $$;

-- It lives again: the orphans that stopped with it start with it. Returns their names.
create function settle_return(p_epoch bigint, p_agent text) returns text[] language plpgsql
as $$
declare
    v_id uuid;
    v_names text[] := '{}';
begin
    perform check_lease(p_epoch);
    update agents set died_at = null where name = p_agent and died_at is not null returning id into v_id;
    if found then
        with started as (
            update agents set desired = 'running', orphaned = false, updated_at = now_ms()
            where parent = v_id and orphaned and planned returning name)
        select coalesce(array_agg(name order by name), '{}') into v_names from started;
        perform hold_lease(p_epoch);
    end if;
    return v_names;
end $$;

revoke all on all functions in schema :"schema" from public;
grant select on spawned to :"agents";
