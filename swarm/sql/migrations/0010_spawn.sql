-- Children made at run time.
select;  -- replaced by the first thing that stands here
