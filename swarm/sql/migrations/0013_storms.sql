-- Budgets, quotas and pair rates.
select;  -- replaced by the first thing that stands here
