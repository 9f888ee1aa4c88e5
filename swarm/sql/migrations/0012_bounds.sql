-- Bounds of inboxes, dead letters, groups.
select;  -- replaced by the first thing that stands here
