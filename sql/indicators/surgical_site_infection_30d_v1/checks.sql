-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more infected operations than operations
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider and has an expected number
select count(*) from indicator_result
where period is null or provider is null or denominator is null or expected is null;

-- fail: a year, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the categories of a provider add up to all
select count(*) from (
    select period, provider
    from indicator_result
    group by period, provider
    having
        sum(numerator) <> 2 * max(numerator) filter (where stratum = 'all')
        or sum(denominator) <> 2 * max(denominator) filter (where stratum = 'all')
        or abs(sum(expected) - 2 * max(expected) filter (where stratum = 'all')) > 0.0001
) as uneven;

-- fail: over all providers as many infections are expected as were observed, in each category of a year
select count(*) from (
    select period, stratum
    from indicator_result
    group by period, stratum
    having abs(sum(expected) - sum(numerator)) > 0.001
) as uncalibrated;

-- warn: at no provider of a thousand operations or more is one in five infected
select count(*) from indicator_result where denominator >= 1000 and numerator > 0.2 * denominator;
