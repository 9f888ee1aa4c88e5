-- What an agent asks of its own file. Schema: ../sqlite. What it may read, `readable` says: as in Postgres.

-- name: ping
select 1;

-- name: add_agent
insert into agents (id, name, created_at, updated_at) values (:id, :name, :now, :now) on conflict do nothing;

-- name: agent_of
select id from agents where name = :name;

-- name: plan_agent
insert into agents (id, name, version, source, create_children, control_children, access_parent_memory, announce,
                    roles, replicas, balance, created_at, updated_at)
values (:id, :name, :version, :source, :create_children, :control_children, :access_parent_memory, :announce,
        :roles, :replicas, :balance, :now, :now)
on conflict (id) do update set
    version = excluded.version, source = excluded.source, create_children = excluded.create_children,
    control_children = excluded.control_children, access_parent_memory = excluded.access_parent_memory,
    announce = excluded.announce,
    roles = excluded.roles, replicas = excluded.replicas, balance = excluded.balance;

-- name: plan_parent
update agents set parent = (select id from agents where name = :parent) where id = :id;

-- name: current_character
select version, document from characters where id = :id order by stored desc limit 1;

-- name: store_character
insert or replace into characters (id, version, document) values (:id, :version, :document);

-- name: agents
select a.*, p.name as parent_name from agents a left join agents p on p.id = a.parent order by a.name;

-- name: set_status
update agents set status = :status, updated_at = :now where id = :me and status <> :status;

-- name: create_memory
insert into memories (id, agent, room, entity, kind, content, created_at)
values (:id, :me, :room, :entity, :kind, :content, :created_at)
on conflict (agent, id) do nothing;

-- name: keep_dead
insert into messages (id, sender, address, room, kind, content, reason, accepted_at)
values (:id, :me, :address, :room, :kind, :content, :reason, :now)
on conflict do nothing;

-- name: get_memories
select m.* from memories m
where m.agent in (select id from agents where id = :me
                  union select parent from agents where id = :me and access_parent_memory)
  and (:room is null or m.room = :room) and (:kind is null or m.kind = :kind)
order by m.created_at desc, m.seq desc limit max(:limit, 0);

-- name: count_memories
select count(*) from memories m
where m.agent in (select id from agents where id = :me
                  union select parent from agents where id = :me and access_parent_memory)
  and (:room is null or m.room = :room) and (:kind is null or m.kind = :kind);

-- name: search_words
select m.*, e.vector
from memory_words w join memories m on m.seq = w.rowid
left join embeddings e on e.agent = m.agent and e.memory = m.id and e.model = :model
where memory_words match :query
  and m.agent in (select id from agents where id = :me
                  union select parent from agents where id = :me and access_parent_memory)
  and (:room is null or m.room = :room) and (:kind is null or m.kind = :kind)
order by bm25(memory_words) limit :most;

-- For what is written without spaces.
-- name: search_pattern
select m.*, e.vector
from memories m left join embeddings e on e.agent = m.agent and e.memory = m.id and e.model = :model
where m.agent in (select id from agents where id = :me
                  union select parent from agents where id = :me and access_parent_memory)
  and (:room is null or m.room = :room) and (:kind is null or m.kind = :kind)
  and instr(lower(m.content ->> '$.text'), :part) > 0
order by m.created_at desc limit :most;

-- name: vectors
select m.seq, e.vector
from memories m join embeddings e on e.agent = m.agent and e.memory = m.id and e.model = :model
where m.agent in (select id from agents where id = :me
                  union select parent from agents where id = :me and access_parent_memory)
  and (:room is null or m.room = :room) and (:kind is null or m.kind = :kind)
  and length(e.vector) = :bytes
order by m.created_at desc limit 20000;

-- name: memory_of
select m.*, e.vector
from memories m left join embeddings e on e.agent = m.agent and e.memory = m.id and e.model = :model
where m.seq = :seq;

-- name: set_embedding
insert into embeddings (agent, memory, model, vector)
select m.agent, m.id, :model, :vector from memories m where m.agent = :me and m.id = :id
on conflict (agent, memory) do update set model = excluded.model, vector = excluded.vector;

-- name: embeddings_due
select m.* from memories m
where m.agent = :me and (:kinds is null or m.kind in (select value from json_each(:kinds)))
  and m.content ->> '$.text' <> ''
  and not exists (
    select 1 from embeddings e
    where e.agent = m.agent and e.memory = m.id and (:model is null or e.model = :model))
order by m.seq limit max(:limit, 0);

-- name: join
insert into participants (room, agent, state, joined_at) values (:room, :me, :state, :now)
on conflict (room, agent) do update set state = excluded.state;

-- name: leave
delete from participants where room = :room and agent = :me;

-- name: rooms
select room, state, joined_at from participants where agent = :me order by room;

-- name: participants
select a.name, p.state, p.joined_at
from participants p join agents a on a.id = p.agent
where p.room = :room and exists (select 1 from participants o where o.room = :room and o.agent = :me)
order by a.name;
