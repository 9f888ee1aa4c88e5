-- The store of an agent that is alone, in one file: the words and shapes of ../migrations, without a ledger.
-- Ids are text in their usual form, times Unix milliseconds, contents JSON, vectors little-endian float32.

create table agents (
    id                   text primary key,
    name                 text not null unique,
    version              text not null default '',
    source               text not null default '',
    parent               text references agents (id),
    create_children      integer not null default 0,
    control_children     integer not null default 0,
    access_parent_memory integer not null default 1,
    announce integer not null default 0,
    roles                text not null default '[]',
    replicas             integer not null default 1,
    balance              text not null default 'room',
    desired              text not null default 'running',
    status               text not null default 'inactive' check (status in ('active', 'inactive')),
    created_at           integer not null,
    updated_at           integer not null
) strict;

create table characters (
    stored   integer primary key autoincrement,  -- the highest is the current one
    id       text not null references agents (id),
    version  text not null,
    document text not null,
    unique (id, version)
) strict;

create table memories (
    seq        integer primary key autoincrement,
    id         text not null,
    agent      text not null,
    room       text not null,
    entity     text not null,
    kind       text not null,
    content    text not null,
    created_at integer not null,
    unique (agent, id)
) strict;
create index memories_latest on memories (agent, created_at, seq);
create index memories_room on memories (agent, room, created_at, seq);
create index memories_kind on memories (agent, kind, seq);

-- What memories are found by; it keeps no text of its own.
create virtual table memory_words using fts5 (text, content = '', tokenize = 'unicode61 remove_diacritics 0');
create trigger memory_words_new after insert on memories begin
    insert into memory_words (rowid, text) values (new.seq, coalesce(new.content ->> '$.text', ''));
end;
create trigger memory_words_gone after delete on memories begin
    insert into memory_words (memory_words, rowid, text)
    values ('delete', old.seq, coalesce(old.content ->> '$.text', ''));
end;

create table embeddings (
    agent  text not null,
    memory text not null,
    model  text not null,
    vector blob not null,
    primary key (agent, memory),
    foreign key (agent, memory) references memories (agent, id) on delete cascade
) strict, without rowid;

create table participants (
    room      text not null,
    agent     text not null references agents (id),
    state     text not null check (state in ('present', 'followed', 'muted')),
    joined_at integer not null,
    primary key (room, agent)
) strict, without rowid;

-- Messages of turns to addresses that name nobody: dead from the start, kept with the reason.
create table messages (
    id          text not null,
    sender      text not null,
    address     text not null,
    room        text not null,
    kind        text not null,
    content     text not null,
    reason      text not null,
    accepted_at integer not null,
    primary key (id, sender)
) strict, without rowid;
