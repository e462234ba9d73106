-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: every row names its year and provider
select count(*) from indicator_result where period is null or provider is null or denominator is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the births add up to those that mothers' records tell of and the exclusions leave
select abs(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result)
    - (
        select count(*)
        from birth
        where
            birth_number is not null
            and birth_date + $early_neonatal_days <= followed_until
            and not (stillborn and coalesce(gestation_weeks < $earliest_stillbirth_weeks, false))
    )
);

-- warn: no provider has more perinatal deaths than births
select count(*) from indicator_result where numerator > denominator;

-- warn: no stillborn baby's record is left without a mother's
select count(*) from birth where stillborn and birth_number is null and followed_until is not null;

-- warn: at least half of the babies' records are matched to a mother's
select count(*) from (
    select
        count(*) filter (where birth_number is null) as unmatched,
        count(*) as babies
    from birth
    where spell_id is not null
) as matched
where unmatched * 2 > babies;
