-- Making the registry agree with the swarm file. The deployer's: it needs no lease, and one runs at a time.

create function provision(p_plans jsonb, p_verifiers jsonb, p_limits jsonb, p_groups jsonb) returns void language plpgsql
as $$
declare
    v_plan record;
    v_row record;
    v_now bigint := now_ms();
begin
    perform pg_advisory_xact_lock(hashtextextended('swarm provision ' || current_schema(), 0));
    create temporary table plans on commit drop as
        select * from jsonb_to_recordset(p_plans) as p (id uuid, name text, character jsonb, version text, source text,
            parent text, permissions jsonb, roles text[], replicas integer, balance text, orphans text);
    select a.name as known, p.name, p.id into v_row
    from agents a join plans p on (a.id = p.id) <> (a.name = p.name) limit 1;
    if found then
        if v_row.known = v_row.name then
            raise exception 'The agent % is known under another id than %; one name is one character. Give the new one another name',
                v_row.name, v_row.id using errcode = 'SW004';
        end if;
        raise exception 'The id % of % is taken by the agent %; give the character another name or id',
            v_row.id, v_row.name, v_row.known using errcode = 'SW004';
    end if;

    insert into agents (id, name, version, source, create_children, control_children, access_parent_memory, announce, roles,
                        replicas, balance, granted, orphans, created_at, updated_at)
    select p.id, p.name, p.version, p.source, (p.permissions ->> 'create_children')::boolean,
           (p.permissions ->> 'control_children')::boolean, (p.permissions ->> 'access_parent_memory')::boolean,
           (p.permissions ->> 'announce')::boolean, p.roles, p.replicas, p.balance, p.permissions, p.orphans, v_now, v_now
    from plans p
    on conflict (id) do nothing;
    perform plan_scaling(p_plans);
    update agents a
    set planned = true, version = p.version, source = p.source, parent = q.id, granted = p.permissions,
        roles = p.roles, balance = p.balance, orphans = p.orphans,
        desired = case when a.planned then a.desired else 'running' end, updated_at = v_now
    from plans p left join agents q on q.name = p.parent
    where a.id = p.id
      and (a.planned, a.version, a.source, a.parent, a.granted, a.roles, a.balance, a.orphans)
          is distinct from
          (true, p.version, p.source, q.id, p.permissions, p.roles, p.balance, p.orphans);
    perform provision_bounds(p_plans);
    perform provision_labels(p_plans);
    perform provision_groups(p_groups);
    delete from spawned where agent in (select id from plans);
    insert into characters (id, version, document, stored_at)
    select p.id, p.version, p.character, v_now from plans p
    on conflict (id, version) do update set document = excluded.document, stored_at = excluded.stored_at
    where characters.document <> excluded.document
       or characters.stored_at < (select max(c.stored_at) from characters c where c.id = excluded.id);
    update agents set planned = false, desired = 'stopped', updated_at = v_now
    where planned and not reserved and id not in (select id from plans) and id not in (select agent from spawned);

    perform plan_send_limits(p_plans);

    for v_plan in select a.id, a.planned, current_schema() || '.' || a.id as role, p_verifiers ->> a.name as verifier
                  from agents a where not a.reserved order by a.id
    loop
        if not exists (select from pg_roles where rolname = v_plan.role) then
            execute format('create role %I login in role %I', v_plan.role, current_schema() || '.agents');
        end if;
        if not v_plan.planned then
            execute format('alter role %I nologin', v_plan.role);
        elsif v_plan.verifier is not null then
            execute format('alter role %I login password %L', v_plan.role, v_plan.verifier);
        else
            execute format('alter role %I login', v_plan.role);
        end if;
    end loop;

    update limits set depth = (p_limits ->> 'depth')::integer, children = (p_limits ->> 'children')::integer;
    perform check_hierarchy();
    perform settle_rights();
end $$;

create function provision_labels(p_plans jsonb) returns void language sql
as $$
    update agents a set labels = p.labels, updated_at = now_ms()
    from (select (g ->> 'id')::uuid as id,
                 array(select jsonb_array_elements_text(coalesce(g -> 'labels', '[]'))) as labels
          from jsonb_array_elements(p_plans) g) p
    where a.id = p.id and a.labels is distinct from p.labels
$$;
