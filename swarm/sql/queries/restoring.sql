-- Before a copy is restored: the role that a dump of the schema takes for granted and does not hold.
-- :"agents" is put in, since a name cannot be a parameter.

-- name: is_taken
select exists (select from pg_namespace where nspname = $1);

-- name: has_role
select exists (select from pg_roles where rolname = $1);

-- name: make_role
create role :"agents" nologin;
