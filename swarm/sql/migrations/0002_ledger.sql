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
    requeue_of  uuid,                           -- the dead one that this is again
    announced   boolean not null default false, -- it went to many at once: counted against the sender's rate
    primary key (id, sender)
);
alter table messages alter column content set compression pglz;
create index messages_announced on messages (sender, accepted_at) where announced;

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
    bytes         integer not null default 0,  -- of the content as JSON
    reason        text,
    last_error    text,                 -- of the latest attempt that went wrong
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
    failures     integer not null default 0,            -- attempts that crashed, or failed and went again
    result       jsonb,
    error        text,
    progress     double precision check (progress between 0 and 100),
    note         text check (length(note) <= 2000),
    inputs       jsonb not null default '[]',           -- what it asked for, and the answers, in order
    deadline     bigint,
    wake_at      bigint,                                -- when it goes again, or is given up, without a delivery
    retry_of     uuid,                                  -- the task that was given again by hand as this one
    retries      integer not null default 0,            -- how often that happened down to this one
    parent_task  uuid references tasks (id),
    hops         integer not null default 0 check (hops between 0 and 32),
    traceparent  text,
    created_at   bigint not null,
    updated_at   bigint not null,
    begun_at     bigint,                                -- first dispatched
    ended_at     bigint,
    check ((result is not null) = (state = 'completed'))
);
create index tasks_due on tasks (deadline)
    where deadline is not null and state in ('submitted', 'working', 'input-required');
create index tasks_newest on tasks (created_at desc, id desc);
create index tasks_by_state on tasks (state, created_at desc, id desc);
create index tasks_waking on tasks (wake_at) where wake_at is not null;
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
    -- What it is found by. ASCII punctuation parts words, so that no path or address is one word; the rest is
    -- the parser's, which takes all other characters for letters whatever the locale. A tsvector holds 1 MB.
    words      tsvector generated always as (strip(to_tsvector('simple', translate(
                   left(coalesce(content ->> 'text', ''), 100000),
                   '!"#$%&''()*+,-./:;<=>?@[\]^_`{|}~', repeat(' ', 32))))) stored,
    primary key (agent, id)
);
create index memories_latest on memories (agent, created_at, seq);
create index memories_room on memories (agent, room, created_at, seq);
create index memories_kind on memories (agent, kind, seq);

-- One for each memory, by the agent's current model; a memory without one is what the queue of embeddings holds.
-- float4[] and not pgvector's type, so that every server can hold it; where the extension is, it compares.
create table embeddings (
    agent  uuid not null,
    memory uuid not null,
    model  text not null check (length(model) between 1 and 200),
    vector float4[] not null check (cardinality(vector) between 1 and 8192),  -- of length 1
    primary key (agent, memory),
    foreign key (agent, memory) references memories (agent, id) on delete cascade
);
alter table embeddings alter column vector set storage external;  -- floats do not compress

create table participants (
    room      text not null check (length(room) between 1 and 200),
    agent     uuid not null references agents (id),
    state     text not null default 'present' check (state in ('present', 'followed', 'muted')),
    joined_at bigint not null default now_ms(),
    primary key (room, agent)
);
create index participants_agent on participants (agent, room);

do $$
begin
    if exists (select from pg_available_extensions where name = 'vector') then
        create extension if not exists vector with schema public;
    end if;
exception when others then  -- not allowed here, or another swarm is at it: cosines are worked out by the agent then
    raise notice 'without pgvector: %', sqlerrm;
end $$;
