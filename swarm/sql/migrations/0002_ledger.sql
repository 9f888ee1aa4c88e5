-- The ledger: messages, a delivery for each recipient, tasks; and what agents remember.
--
-- deliveries and messages have no foreign key to agents: rows of agents are never deleted, every id comes
-- from agents in the same transaction, and the key would lock the agent's row at each insert.
-- A message is named by (id, sender), so that nobody can take an id away from another agent.

create table messages (
    id          uuid not null,
    sender      uuid not null,
    address     text not null check (length(address) between 1 and 128),
    room        text not null check (length(room) between 1 and 200),
    kind        text not null check (kind in ('tell', 'announce', 'task', 'result', 'notice')),
    content     jsonb not null,
    in_reply_to text,
    expires_at  bigint,
    hops        integer not null default 0 check (hops between 0 and 32),
    traceparent text,
    accepted_at bigint not null,
    primary key (id, sender)
);
alter table messages alter column content set compression pglz;

create table deliveries (
    seq           bigint generated always as identity primary key,
    message       uuid not null,
    sender        uuid not null,
    recipient     uuid,                 -- null: the address named nobody; then the delivery is dead from the start
    room          text not null,
    kind          text not null,
    state         text not null default 'accepted'
                  check (state in ('accepted', 'dispatched', 'handled', 'expired', 'dead')),
    attempts      integer not null default 0,
    crashes       integer not null default 0,
    reason        text,
    expires_at    bigint,
    accepted_at   bigint not null,
    dispatched_at bigint,
    handled_at    bigint,
    handled_by    text,
    ended_at      bigint,               -- expired or dead
    foreign key (message, sender) references messages (id, sender) on delete cascade,
    unique (message, sender, recipient),
    check ((state = 'handled') = (handled_at is not null)),
    check (recipient is not null or state = 'dead')
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);

-- Partial, so that what is handled costs nothing: the queue, the order gate, what may expire, what ended badly.
create index deliveries_waiting on deliveries (recipient, seq) where state = 'accepted';
create index deliveries_results on deliveries (recipient, seq)
    where state = 'accepted' and kind in ('result', 'notice');
create index deliveries_open on deliveries (recipient, sender, room, seq) where state in ('accepted', 'dispatched');
create index deliveries_expiring on deliveries (expires_at) where state = 'accepted' and expires_at is not null;
create index deliveries_lost on deliveries (state, seq) where state in ('expired', 'dead');

create table tasks (
    id           uuid primary key,
    parent       uuid not null references agents (id),  -- who gave it
    child        uuid not null references agents (id),
    goal         text not null,
    input        jsonb not null default '{}',
    state        text not null default 'submitted' check (state in
                 ('submitted', 'working', 'input-required', 'completed', 'failed', 'canceled', 'rejected')),
    attempts     integer not null default 0,
    max_attempts integer not null default 3 check (max_attempts >= 1),
    result       jsonb,
    error        text,
    progress     double precision,
    note         text,
    deadline     bigint,
    parent_task  uuid references tasks (id),
    hops         integer not null default 0 check (hops between 0 and 32),
    traceparent  text,
    created_at   bigint not null,
    updated_at   bigint not null,
    check ((result is not null) = (state = 'completed'))
);
create index tasks_due on tasks (deadline)
    where deadline is not null and state in ('submitted', 'working', 'input-required');
create index tasks_newest on tasks (created_at desc, id desc);
create index tasks_parent_task on tasks (parent_task) where parent_task is not null;

create table memories (
    seq        bigint generated always as identity,  -- in the order of writing: two of one millisecond keep it
    id         uuid not null,
    agent      uuid not null,
    room       text not null,
    entity     text not null,
    kind       text not null,
    content    jsonb not null,
    created_at bigint not null,
    primary key (agent, id)
);
create index memories_latest on memories (agent, created_at, seq);
create index memories_room on memories (agent, room, created_at, seq);
