-- What is cleaned away, and when.
select;  -- replaced by the first thing that stands here
