-- What an agent asks. Row security decides what it sees; me() and readable() are in 0003_security.sql.

-- name: ping
select 1;

-- name: who_am_i
select me()::text, exists (
    select from agents a
    where a.id = (select me()) and a.replicas = 1 and a.scale is null and cardinality((select readable())) = 1) as alone;

-- name: commit
select status, recipients, dead from commit_turn($1::jsonb);

-- Each decided on its own, in the order given, all in this one transaction: see together.py.
-- name: commit_several
select c.status, c.recipients, c.dead
from unnest($1::jsonb[]) with ordinality as t (turn, place) cross join lateral commit_turn(t.turn) as c;

-- name: post
select ids, names, refused from post_messages($1::jsonb);

-- name: post_several
select p.ids, p.names, p.refused
from unnest($1::jsonb[]) with ordinality as t (messages, place) cross join lateral post_messages(t.messages) as p;

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
    or ($1 like 'group:%' and a.id <> s.id and a.planned
        and exists (select from groups g where g.agent = a.id and 'group:' || g.name = $1))
    or ($1 like 'role:%' and a.roles @> array[substr($1, 6)] and a.planned and a.id <> s.id))
order by a.name;

-- name: knows_group
select exists (select from groups where 'group:' || name = $1);

-- name: names
select name from agents where not reserved
union all
select distinct 'group:' || name from groups
union all
select distinct 'role:' || r from agents, unnest(roles) r where planned
order by 1;

-- name: get_tasks
select t.* from unnest($1::uuid[]) with ordinality as g (id, ord) join task_list t using (id) order by g.ord;

-- name: cancel
select (c.task).*, c.names from cancel_given($1, $2) c;

-- name: answer
select (c.task).*, c.names from answer_given($1, $2::jsonb) c;

-- name: report
update tasks set progress = $3, note = $4
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

-- A vector is always looked up by its memory (lateral, with offset 0, which the planner does not dissolve): joined
-- freely, a plan made while the tables were small compares each memory with each vector.

-- The candidates of a search: $1 room, $2 kind, $3 words, $4 patterns, $5 the model of the vectors.
-- name: search_text
select m.agent, m.id, m.room, m.entity, m.kind, m.content, m.created_at, e.vector, null::float8 as cosine
from unnest((select readable())) as r (agent)
cross join lateral (
    select * from memories x
    where x.agent = r.agent and ($1::text is null or x.room = $1) and ($2::text is null or x.kind = $2)
      and (x.words @@ $3::tsquery or x.content ->> 'text' like any ($4::text[]))
    order by ts_rank(x.words, $3::tsquery) desc, x.created_at desc limit 500) m
left join lateral (
    select v.vector from embeddings v where v.agent = m.agent and v.memory = m.id and v.model = $5 offset 0) e on true;

-- Vectors of $3 model in the scope of $1 room and $2 kind, of the newest memories; in the array's wire format.
-- name: vectors
select m.agent, m.id as memory, array_send(e.vector) as vector
from unnest((select readable())) as r (agent)
cross join lateral (
    select x.agent, x.id from memories x
    where x.agent = r.agent and ($1::text is null or x.room = $1) and ($2::text is null or x.kind = $2)
    order by x.created_at desc limit 100000) m
cross join lateral (
    select v.vector from embeddings v
    where v.agent = m.agent and v.memory = m.id and v.model = $3 and cardinality(v.vector) = $4 offset 0) e
limit 20000;

-- name: memories_of
select m.agent, m.id, m.room, m.entity, m.kind, m.content, m.created_at, null::float4[] as vector, g.cosine
from unnest($1::uuid[], $2::uuid[], $3::float8[]) as g (agent, id, cosine)
cross join lateral (select * from memories x where x.agent = g.agent and x.id = g.id offset 0) m;

-- The schema of pgvector, if the database has it.
-- name: vector_schema
select n.nspname from pg_extension e join pg_namespace n on n.oid = e.extnamespace where e.extname = 'vector';

-- As vectors and memories_of together, by pgvector in its schema: the $6 nearest to $5.
-- name: nearest
select m.agent, m.id, m.room, m.entity, m.kind, m.content, m.created_at, null::float4[] as vector, n.cosine
from (
    select x.agent, x.id, 1 - (e.vector::@vector@.vector operator(@vector@.<=>) $5::float4[]::@vector@.vector) as cosine
    from unnest((select readable())) as r (agent)
    join memories x on x.agent = r.agent and ($1::text is null or x.room = $1) and ($2::text is null or x.kind = $2)
    cross join lateral (
        select v.vector from embeddings v
        where v.agent = x.agent and v.memory = x.id and v.model = $3 and cardinality(v.vector) = $4 offset 0) e
    order by cosine desc limit $6) n
cross join lateral (select * from memories x where x.agent = n.agent and x.id = n.id offset 0) m;

-- name: set_embeddings
insert into embeddings (agent, memory, model, vector)
select m.agent, m.id, $1, array(select jsonb_array_elements_text(g.value)::float4)
from jsonb_each($2::jsonb) as g
cross join lateral (select x.agent, x.id from memories x where x.agent = (select me()) and x.id = g.key::uuid offset 0) m
on conflict (agent, memory) do update set model = excluded.model, vector = excluded.vector;

-- name: embeddings_due
select m.id, m.room, m.entity, m.kind, m.content, m.created_at
from memories m
where m.agent = (select me()) and ($2::text[] is null or m.kind = any ($2)) and m.content ->> 'text' <> ''
  and (select 1 from embeddings e
       where e.agent = m.agent and e.memory = m.id and ($3::text is null or e.model = $3) limit 1) is null
order by m.seq limit greatest($1::integer, 0);

-- name: join
insert into participants (room, agent, state) values ($1, me(), $2)
on conflict (room, agent) do update set state = excluded.state;

-- name: leave
delete from participants where room = $1 and agent = (select me());

-- name: rooms
select p.room, p.state, p.joined_at,
       array(select a.name from participants o join agents a on a.id = o.agent
             where o.room = p.room order by a.name collate "C") as participants
from participants p
where p.agent = (select me())
order by p.room collate "C";

-- name: participants
select a.name, p.state, p.joined_at
from participants p join agents a on a.id = p.agent
where p.room = $1
order by a.name collate "C";

-- name: get_character
select document from characters where id = $1 order by stored_at desc, version desc limit 1;

-- name: agents
select a.id, a.name, a.version, a.source, p.name as parent, a.create_children, a.control_children,
       a.access_parent_memory, a.announce, a.roles, a.labels, a.replicas, a.balance, a.desired, a.status, a.orphans, a.orphaned,
       a.died_at, a.planned, a.planned_replicas, a.scale, a.sleep_seconds as sleep_after, a.asleep,
       a.created_at, a.updated_at, o.name as born_of, b.secrets
from agents a left join agents p on p.id = a.parent
left join spawned b on b.agent = a.id left join agents o on o.id = b.born_of
where not a.reserved
order by a.name;

-- name: set_status
update agents set status = $1, updated_at = now_ms() where id = (select me()) and status <> $1;
