-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more admissions for sepsis than emergency admissions
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider
select count(*) from indicator_result where period is null or provider is null or denominator is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the admissions add up to the finished emergency spells that the exclusions leave
select abs(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result)
    - (
        select count(*)
        from provider_spell
        where
            finished
            and admission_method in (select unnest($emergency_methods))
            and coalesce(patient_class, '') not in (select unnest($excluded_patient_classes))
    )
);

-- fail: sepsis is found by the beginning of the code, whatever stands behind it
select abs(
    (select coalesce(sum(numerator), 0)::bigint from indicator_result)
    - (
        select count(*)
        from provider_spell
        where
            finished
            and admission_method in (select unnest($emergency_methods))
            and coalesce(patient_class, '') not in (select unnest($excluded_patient_classes))
            and regexp_matches(primary_diagnosis, '^(?:' || array_to_string($sepsis_codes, '|') || ')')
    )
);

-- warn: no provider lacks the primary diagnosis of more than one emergency admission in twenty
select count(*) from (
    select provider, financial_year
    from provider_spell
    where finished and list_contains($emergency_methods, coalesce(admission_method, ''))
    group by provider, financial_year
    having count(*) filter (where primary_diagnosis is null) > 0.05 * count(*)
) as poorly_coded;
