-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more readmissions than babies
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider
select count(*) from indicator_result where period is null or provider is null or denominator is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: there are no more babies than were born alive and could be followed to the end
select greatest(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result)
    - (
        select count(distinct person_token)
        from birth
        where not stillborn and birth_date + $days_after_birth <= followed_until
    ),
    0
);

-- warn: each provider with a thousand babies or more has a readmission
select count(*) from indicator_result where denominator >= 1000 and numerator = 0;
