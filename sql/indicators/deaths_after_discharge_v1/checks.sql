-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: a period, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: no count is above what it was counted among
select count(*) from indicator_result where numerator > denominator;
