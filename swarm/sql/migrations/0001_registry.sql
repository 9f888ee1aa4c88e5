-- Who is in the swarm: agents, their characters by version, and the coordinator's lease.
-- Applied with search_path = the swarm's own schema; nothing here names it. Times are Unix milliseconds.

create function now_ms() returns bigint language sql volatile parallel safe
as $$ select (extract(epoch from clock_timestamp()) * 1000)::bigint $$;

create table agents (
    id                   uuid primary key,
    name                 text not null unique,
    reserved             boolean not null default false,  -- senders that take no mail: operator, coordinator
    planned              boolean not null default true,   -- in the swarm file as last provisioned
    version              text not null default '',
    source               text not null default '',
    parent               uuid references agents (id),
    create_children      boolean not null default false,
    control_children     boolean not null default false,
    access_parent_memory boolean not null default true,
    announce             boolean not null default false,  -- may speak to all, to a group, to a role at once
    roles                text[] not null default '{}',
    labels               text[] not null default '{}',   -- what a node must have to run it
    replicas             integer not null default 1 check (replicas >= 0),
    balance              text not null default 'room' check (balance in ('room', 'round-robin', 'least-loaded')),
    desired              text not null default 'running' check (desired in ('running', 'stopped')),
    status               text not null default 'inactive' check (status in ('active', 'inactive')),
    inbox_messages       integer not null default 10000 check (inbox_messages >= 1),
    inbox_bytes          bigint not null default 67108864 check (inbox_bytes >= 1),
    inbox_ms             bigint not null default 604800000 check (inbox_ms >= 1),
    announce_per_minute  integer not null default 60 check (announce_per_minute >= 0),
    announce_bytes       integer not null default 262144 check (announce_bytes >= 0),
    created_at           bigint not null default now_ms(),
    updated_at           bigint not null default now_ms(),
    check (parent <> id)
);
create index agents_parent on agents (parent);
create index agents_id_text on agents ((id::text));  -- an address is a name or an id, as text
create index agents_roles on agents using gin (roles);

insert into agents (id, name, reserved, desired) values
    ('00000000-0000-0000-0000-000000000001', 'operator', true, 'stopped'),
    ('00000000-0000-0000-0000-000000000002', 'coordinator', true, 'stopped');

-- The address `group:x`: who is meant by it, as the swarm file says.
create table groups (
    name  text not null check (length(name) between 1 and 63),
    agent uuid not null references agents (id),
    primary key (name, agent)
);

create table characters (
    id        uuid not null references agents (id),
    version   text not null,
    document  jsonb not null,
    stored_at bigint not null default now_ms(),  -- when it last became the current one
    primary key (id, version)
);

create table lease (
    one        boolean primary key default true check (one),
    holder     text,
    epoch      bigint not null default 0,
    expires_at bigint not null default 0
);
insert into lease default values;
