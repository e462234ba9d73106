-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more infected deliveries than deliveries
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider and has an expected number
select count(*) from indicator_result
where period is null or provider is null or denominator is null or expected is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the deliveries add up to those that could be followed to the end
select abs(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result)
    - (select count(*) from delivery where delivery_date + $days_after_delivery <= followed_until)
);

-- fail: in each year the expected numbers add up to the observed ones
select count(*) from (
    select period
    from indicator_result
    group by period
    having abs(sum(numerator) - sum(expected)) > 0.001
) as unbalanced;

-- warn: each provider with a thousand deliveries or more records an infection
select count(*) from indicator_result where denominator >= 1000 and numerator = 0;

-- warn: nine of ten deliveries have a known mode
select count(*) from (
    select count(*) filter (where mode = 'unknown') as unknown_mode, count(*) as deliveries from delivery
) as known
where unknown_mode * 10 > deliveries;
