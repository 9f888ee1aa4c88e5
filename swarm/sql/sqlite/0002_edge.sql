-- What an agent at the edge keeps besides: what is to be synced, and answers for when it is offline.

-- In the order in which it is sent; an entry goes when the swarm has it.
create table outbox (
    seq    integer primary key autoincrement,
    agent  text not null references agents (id),
    kind   text not null check (kind in ('message', 'memory')),
    id     text not null,
    entry  text not null,  -- JSON, as Postgres is given it
    unique (agent, kind, id)
) strict;

create table responses (
    agent    text not null references agents (id),
    room     text not null,
    question text not null,
    answer   text not null,
    used     integer not null,  -- grows with each use; the least goes first
    primary key (agent, room, question)
) strict;
create index responses_used on responses (agent, used);
