-- Exactly what an agent may touch. Whatever is not named here is refused.
-- A migration that adds functions must revoke them from public again.

revoke all on all functions in schema :"schema" from public;
grant select on agents, characters, messages, deliveries, tasks, task_list, memories to :"agents";
grant update (status, updated_at) on agents to :"agents";
grant update (progress, note, updated_at) on tasks to :"agents";
grant insert on memories to :"agents";
grant execute on function me(), readable(), require_agent(), now_ms(), commit_turn(jsonb), post_messages(jsonb),
    delegate_tasks(jsonb) to :"agents";
