-- How many of an agent run: what the file says, what an operator or a policy made of it, and who sleeps.

alter table agents add column planned_replicas integer;  -- the file's number as last provisioned; replicas is what is wanted
alter table agents add column scale jsonb;               -- the policy that changes replicas, if the file has one
alter table agents add column sleep_seconds double precision check (sleep_seconds > 0);  -- idle so long, it stops until it has mail
alter table agents add column asleep boolean not null default false;

-- What somebody made of the file's number stands until that number changes, as a stop stands. A policy's bounds hold
-- at once; without the policy that made it, a number is nobody's.
create function plan_scaling(p_plans jsonb) returns void language sql
as $$
    with plans as (
        select p.*, coalesce(p.replicas, 1) as own, nullif(p.scale, 'null'::jsonb) as policy
        from jsonb_to_recordset(p_plans) as p (id uuid, replicas integer, scale jsonb, sleep_after double precision)
    ), wanted as (
        select p.*, case when not a.planned or a.planned_replicas is distinct from p.own
                              or (a.scale is not null and p.policy is null) then p.own
                         when p.policy is null or a.replicas = 0 then a.replicas
                         else least((p.policy ->> 'max')::integer, greatest((p.policy ->> 'min')::integer, a.replicas))
                    end as number
        from plans p join agents a on a.id = p.id
    )
    update agents a
    set replicas = w.number, planned_replicas = w.own, scale = w.policy, sleep_seconds = w.sleep_after,
        asleep = a.planned and a.asleep and w.sleep_after is not null, updated_at = now_ms()
    from wanted w
    where a.id = w.id
      and (a.replicas, a.planned_replicas, a.scale, a.sleep_seconds, a.asleep) is distinct from
          (w.number, w.own, w.policy, w.sleep_after, a.planned and a.asleep and w.sleep_after is not null)
$$;

create function set_replicas(p_epoch bigint, p_agent text, p_replicas integer) returns boolean language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    update agents set replicas = p_replicas, updated_at = now_ms()
    where name = p_agent and not reserved and replicas <> p_replicas;
    return exists (select from agents where name = p_agent and not reserved);
end $$;

-- Those of them that have nothing open: no mail, no task given to them or by them.
create function put_to_sleep(p_epoch bigint, p_names text[]) returns setof text language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    return query
    update agents a set asleep = true, updated_at = now_ms()
    where a.name = any (p_names) and a.sleep_seconds is not null and a.desired = 'running' and not a.asleep
      and not exists (select from deliveries d where d.recipient = a.id and d.state in ('accepted', 'dispatched'))
      and not exists (select from tasks t where t.state in ('submitted', 'working', 'input-required')
                      and a.id in (t.parent, t.child))
    returning a.name;
end $$;

create function wake_agents(p_epoch bigint, p_names text[]) returns void language plpgsql
as $$
begin
    perform hold_lease(p_epoch);
    update agents set asleep = false, updated_at = now_ms() where name = any (p_names) and asleep;
end $$;

revoke all on function plan_scaling(jsonb), set_replicas(bigint, text, integer), put_to_sleep(bigint, text[]),
    wake_agents(bigint, text[]) from public;
