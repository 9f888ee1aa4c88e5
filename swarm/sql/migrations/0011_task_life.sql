-- The life of a task beyond its first attempt.
select;  -- replaced by the first thing that stands here
