-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: a period, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: no count is above what it was counted among
select count(*) from indicator_result where numerator > denominator;

-- warn: no provider with a hundred spells or more has a tenth of them without a diagnosis
select count(*) from indicator_result where denominator >= 100 and numerator > 0.1 * denominator;
