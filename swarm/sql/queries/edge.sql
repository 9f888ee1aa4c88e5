-- What an agent at the edge asks of its own file, besides sqlite.sql. Schema: ../sqlite/0002_edge.sql.

-- name: prune_memories
delete from memories where seq in (
    select seq from memories where agent = :me order by created_at, seq
    limit max((select count(*) from memories where agent = :me) - :most, 0));

-- name: outbox_size
select count(*) as size, coalesce(sum(kind = 'memory'), 0) as memories from outbox where agent = :me;

-- name: outbox_has
select count(*) from outbox
where agent = :me and kind = 'message' and id in (select value from json_each(:ids));

-- name: outbox_add
insert into outbox (agent, kind, id, entry) values (:me, :kind, :id, :entry)
on conflict (agent, kind, id) do nothing;

-- name: outbox_next
select seq, kind, id, entry from outbox where agent = :me order by seq limit :limit;

-- name: outbox_done
delete from outbox where agent = :me and seq = :seq;

-- name: response
update responses set used = (select max(used) + 1 from responses where agent = :me)
where agent = :me and room = :room and question = :question returning answer;

-- name: keep_response
insert into responses (agent, room, question, answer, used)
values (:me, :room, :question, :answer, (select coalesce(max(used), 0) + 1 from responses where agent = :me))
on conflict (agent, room, question) do update set answer = excluded.answer, used = excluded.used;

-- name: prune_responses
delete from responses where agent = :me and used in (
    select used from responses where agent = :me order by used desc limit -1 offset :most);

-- name: count_responses
select count(*) from responses where agent = :me;
