-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more caesarean sections than deliveries
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider
select count(*) from indicator_result where period is null or provider is null or denominator is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the caesarean sections add up to those among the deliveries
select abs(
    (select coalesce(sum(numerator), 0)::bigint from indicator_result)
    - (select count(*) from delivery where followed_until is not null and mode = $counted_mode)
);

-- warn: each provider with a thousand deliveries or more has one
select count(*) from indicator_result where denominator >= 1000 and numerator = 0;
