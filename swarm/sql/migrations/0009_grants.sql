-- Exactly what an agent may touch. Whatever is not named here is refused.
-- A migration that adds functions must revoke them from public again.

revoke all on all functions in schema :"schema" from public;
grant select on agents, groups, characters, messages, deliveries, tasks, task_list, memories, embeddings,
    participants to :"agents";
grant update (status, updated_at) on agents to :"agents";
grant update (progress, note, updated_at) on tasks to :"agents";
grant insert on memories, embeddings, participants to :"agents";
grant update (model, vector) on embeddings to :"agents";
grant update (state) on participants to :"agents";
grant delete on participants to :"agents";
grant execute on function me(), readable(), my_rooms(), require_agent(), now_ms(), commit_turn(jsonb), post_messages(jsonb),
    delegate_tasks(jsonb) to :"agents";
