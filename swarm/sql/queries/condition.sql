-- How the database is, for `swarm doctor`. Nothing here writes; the search path is the swarm's schema.

-- name: has_migrations
select to_regclass('schema_migrations') is not null;

-- name: applied
select version, checksum from schema_migrations order by version;

-- name: server
select (select count(*) from pg_stat_activity where backend_type = 'client backend')::int as connections,
       current_setting('max_connections')::int as most_connections,
       current_setting('server_version') as version,
       extract(epoch from clock_timestamp())::float8 as clock;
