-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: every row names its year and provider and has bed days
select count(*) from indicator_result where period is null or provider is null or coalesce(denominator, 0) <= 0;

-- fail: a year, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: resistant cases and the others add up to all
select count(*) from (
    select period, provider
    from indicator_result
    group by period, provider
    having sum(numerator) <> 2 * max(numerator) filter (where stratum = 'all')
) as uneven;

-- fail: the bed days add up to the finished spells that the exclusions leave
select abs(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result where stratum = 'all')
    - (
        select coalesce(sum(discharge_date - admission_date), 0)::bigint
        from provider_spell
        where
            finished
            and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
    )
);

-- warn: no code of meticillin resistance stands in an episode that has no code of the infection
select count(*) from (
    select record
    from infection_diagnosis
    group by record
    having
        bool_or(list_contains($resistance_codes, left(code, 4)))
        and not bool_or(list_contains($staphylococcus_codes, left(code, 4)))
) as resistance_alone;

-- warn: no stay is longer than a thousand days, which a wrong date of admission makes
select count(*) from provider_spell where finished and discharge_date - admission_date > 1000;
