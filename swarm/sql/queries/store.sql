-- What an agent asks. Row security decides what it sees; me() and readable() are in 0003_security.sql.

-- name: ping
select 1;

-- name: who_am_i
select me()::text;

-- name: commit
select status, recipients, dead from commit_turn($1::jsonb);

-- name: post
select ids, names from post_messages($1::jsonb);

-- name: delegate
select * from delegate_tasks($1::jsonb);

-- name: resolve
select a.name
from agents a, (select id, parent from agents where id = (select me())) s
where not a.reserved and (
    a.name = $1
    or a.id::text = lower($1)
    or ($1 = 'all' and a.planned and a.id <> s.id)
    or ($1 = 'children' and a.planned and a.parent = s.id)
    or ($1 = 'parent' and a.id = s.parent)
    or ($1 like 'role:%' and a.roles @> array[substr($1, 6)] and a.planned and a.id <> s.id))
order by a.name;

-- name: names
select name from agents where not reserved order by name;

-- name: get_tasks
select t.* from unnest($1::uuid[]) with ordinality as g (id, ord) join task_list t using (id) order by g.ord;

-- name: report
update tasks set progress = $3, note = $4, updated_at = now_ms()
where id = $1 and attempts = $2 and child = (select me()) and state = 'working'
returning id;

-- name: create_memory
insert into memories (id, agent, room, entity, kind, content, created_at)
select m.id, me(), m.room, m.entity, m.kind, m.content, coalesce(nullif(m.created_at, 0), now_ms())
from jsonb_to_record($1::jsonb)
     as m (id uuid, room text, entity text, kind text, content jsonb, created_at bigint)
on conflict do nothing;

-- name: get_memories
select m.id, m.room, m.entity, m.kind, m.content, m.created_at
from unnest((select readable())) as r (agent)
cross join lateral (
    select * from memories x
    where x.agent = r.agent and ($1::text is null or x.kind = $1)
    order by x.created_at desc, x.seq desc limit $2) m
order by m.created_at desc, m.seq desc limit $2;

-- name: get_room_memories
select m.id, m.room, m.entity, m.kind, m.content, m.created_at
from unnest((select readable())) as r (agent)
cross join lateral (
    select * from memories x
    where x.agent = r.agent and x.room = $3 and ($1::text is null or x.kind = $1)
    order by x.created_at desc, x.seq desc limit $2) m
order by m.created_at desc, m.seq desc limit $2;

-- name: count_memories
select count(*) from memories where ($1::text is null or room = $1) and ($2::text is null or kind = $2);

-- name: get_character
select document from characters where id = $1 order by stored_at desc, version desc limit 1;

-- name: agents
select a.id, a.name, a.version, a.source, p.name as parent, a.create_children, a.control_children,
       a.access_parent_memory, a.roles, a.replicas, a.balance, a.desired, a.status, a.created_at, a.updated_at
from agents a left join agents p on p.id = a.parent
where not a.reserved
order by a.name;

-- name: set_status
update agents set status = $1, updated_at = now_ms() where id = (select me()) and status <> $1;
