-- What the coordinator asks. Writes are functions that take the epoch of its lease: 0007_coordination.sql.

-- name: ping
select 1;

-- name: take_lease
select take_lease($1, $2);

-- name: release_lease
update lease set holder = null, expires_at = 0 where holder = $1;

-- name: provision
select provision($1::jsonb, $2::jsonb, $3::jsonb, $4::jsonb);

-- name: agents
select a.id, a.name, a.version, a.source, p.name as parent, a.create_children, a.control_children,
       a.access_parent_memory, a.announce, a.roles, a.labels, a.replicas, a.balance, a.desired, a.status, a.orphans, a.orphaned,
       a.died_at, a.planned, a.planned_replicas, a.scale, a.sleep_seconds as sleep_after, a.asleep,
       a.created_at, a.updated_at, o.name as born_of, b.secrets
from agents a left join agents p on p.id = a.parent
left join spawned b on b.agent = a.id left join agents o on o.id = b.born_of
where not a.reserved
order by a.name;

-- name: names
select name from agents where not reserved
union all
select distinct 'group:' || name from groups
union all
select distinct 'role:' || r from agents, unnest(roles) r where planned
order by 1;

-- name: set_desired
select set_desired($1, $2, $3);

-- name: set_replicas
select set_replicas($1, $2, $3);

-- name: oldest_waiting
select a.name, greatest(0, now_ms() - d.accepted_at) as ms
from agents a cross join lateral (select q.accepted_at from deliveries q
                                  where q.recipient = a.id and q.state = 'accepted' order by q.seq limit 1) d
where a.name = any ($1);

-- name: put_to_sleep
select * from put_to_sleep($1, $2);

-- name: wake
select wake_agents($1, $2);

-- name: accept
select r.ids, r.names, r.refused from agents s, accept_for($1, s.id, $3::jsonb) r where s.name = $2;

-- name: claim
select * from claim_deliveries($1, $2, $3);

-- name: waiting
select a.name, w.waiting
from (select agent, sum(messages + answers)::bigint as waiting from inbox_counts group by agent) w
join agents a on a.id = w.agent
where w.waiting > 0;

-- name: release
select * from release_deliveries($1, $2, $3);

-- name: dispatched
select a.name, d.out
from (select recipient, count(*) as out from deliveries where state = 'dispatched' group by recipient) d
join agents a on a.id = d.recipient;

-- name: release_all_but
select release_all_but($1, a.id, $3) from agents a where a.name = $2 and not a.reserved;

-- name: end_overdue
select * from end_overdue($1);

-- name: delegate
select t.* from agents s, delegate_for($1, s.id, $3::jsonb) t where s.name = $2;

-- name: knows
select exists (select from agents where name = $1);

-- name: tasks
select l.*, case when octet_length(l.result::text) <= 4000 then l.result end as result,
       case when octet_length(l.input::text) <= 4000 then l.input else '{}' end as input
from (select id from tasks order by created_at desc, id desc limit $1) t join task_list l using (id)
order by l.created_at desc, l.id desc;

-- name: tasks_of_state
select l.*, case when octet_length(l.result::text) <= 4000 then l.result end as result,
       case when octet_length(l.input::text) <= 4000 then l.input else '{}' end as input
from (select id from tasks where state = $2 order by created_at desc, id desc limit $1) t join task_list l using (id)
order by l.created_at desc, l.id desc;

-- name: tasks_of_agent
select l.*, case when octet_length(l.result::text) <= 4000 then l.result end as result,
       case when octet_length(l.input::text) <= 4000 then l.input else '{}' end as input
from (select t.id from tasks t, agents a
      where a.name = $3 and a.id in (t.parent, t.child) and ($2::text is null or t.state = $2)
      order by t.created_at desc, t.id desc limit $1) t join task_list l using (id)
order by l.created_at desc, l.id desc;

-- name: task
select * from task_list where id = $1;

-- name: subtasks
select * from task_list where parent_task = $1 order by created_at, id;

-- name: task_tree
with recursive below (id) as (
    select t.id from tasks t where t.parent_task = $1
    union
    select t.id from below b join tasks t on t.parent_task = b.id
)
select l.*, null::jsonb as result from below join task_list l using (id) order by l.created_at, l.id limit 1000;

-- name: cancel
select (c.task).*, c.names from agents a, cancel_for($1, a.id, $3, $4) c where a.name = $2;

-- name: answer
select (c.task).*, c.names from agents a, answer_for($1, a.id, $3, $4::jsonb) c where a.name = $2;

-- name: retry
select (c.task).*, c.names from agents a, retry_for($1, a.id, $3) c where a.name = $2;

-- name: wake_tasks
select wake_tasks($1);

-- name: ended_of
select seq, coalesce(reason, '') as reason from deliveries where seq = any ($1) and state in ('expired', 'dead');

-- name: message
select m.id, s.name as sender, m.address, m.room, m.kind, m.content, m.accepted_at,
       d.seq, coalesce(r.name, m.address) as recipient, d.state, d.attempts, d.reason, d.handled_at
from (select * from messages where id = $1 order by accepted_at limit 1) m
join agents s on s.id = m.sender
left join deliveries d on d.message = m.id and d.sender = m.sender
left join agents r on r.id = d.recipient
order by r.name, d.seq;

-- name: inbox
select a.id,
       (select coalesce(sum(c.messages + c.answers), 0)::bigint from inbox_counts c where c.agent = a.id) as waiting,
       (select coalesce(sum(c.bytes), 0)::bigint from inbox_counts c where c.agent = a.id) as bytes,
       a.inbox_messages, a.inbox_bytes, a.inbox_ms, a.announce_per_minute, a.announce_bytes,
       (select count(*) from deliveries d where d.recipient = a.id and d.state = 'dispatched') as in_flight,
       (select d.accepted_at from deliveries d where d.recipient = a.id and d.state = 'accepted'
        order by d.seq limit 1) as oldest_at
from agents a where a.name = $1 and not a.reserved;

-- name: inbox_first
select m.id, s.name as sender, m.address, m.room, m.kind, m.content, m.accepted_at,
       d.seq, $3::text as recipient, d.state, d.attempts, d.reason, d.handled_at
from (select * from deliveries where recipient = $1 and state = 'accepted' order by seq limit $2) d
join messages m on m.id = d.message and m.sender = d.sender
join agents s on s.id = d.sender
order by d.seq;

-- name: storms
select s.kind, a.name as sender, coalesce(r.name, '') as recipient, s.text, s.refused, s.first_at, s.last_at
from storms s join agents a on a.id = s.sender left join agents r on r.id = s.recipient
where s.last_at >= $1
order by s.last_at desc, s.kind, a.name limit 1000;

-- name: end_aged
select * from end_aged($1);

-- Those of $1 (null: all), also those that were requeued or dropped if $3; the newest first, or with $4 the oldest.
-- name: dead_letters
select * from dead_list
where ($1::text is null or recipient = $1) and ($3 or (requeued_as is null and dropped_at is null))
order by case when $4 then delivery else -delivery end limit $2;

-- name: dead_letter
select * from dead_list where delivery = $1;

-- name: dead_letters_of
select * from dead_list where id = $1 and ($2::text is null or recipient = $2) order by delivery;

-- name: requeue
select * from requeue_dead_letter($1, $2, $3, $4);

-- name: drop_dead
select drop_dead_letter($1, $2, $3);

-- name: stats
select * from ledger_stats();

-- name: prune
select * from prune($1, $2, $3::jsonb, $4, $5);

-- name: family
with recursive above (id, parent, name, n) as (
    select id, parent, name, 0 from agents where name = $1 and not reserved
    union all
    select a.id, a.parent, a.name, u.n + 1 from above u join agents a on a.id = u.parent where u.n < 1000
), below (id, name, n) as (
    select id, name, 0 from agents where name = $1 and not reserved
    union all
    select a.id, a.name, d.n + 1 from below d join agents a on a.parent = d.id where a.planned and d.n < 1000
)
select (select name from above where n = 1) as parent,
       array(select name from below where n = 1 order by name collate "C") as children,
       array(select name from above where n > 0 order by n) as ancestors,
       array(select name from below where n > 0 order by n, name collate "C") as subtree
where exists (select from above);

-- name: roots
select name from agents where parent is null and planned and not reserved order by name collate "C";

-- name: spawn
select spawn_child($1, $2, $3::jsonb);

-- name: set_verifier
select set_verifier($1, $2, $3);

-- name: command_child
select command_child($1, $2, $3, $4);

-- name: remove_child
select remove_child($1, $2, $3);

-- name: permit
select permit($1, $2, $3::jsonb);

-- name: settle_death
select settle_death($1, $2);

-- name: settle_return
select settle_return($1, $2);
