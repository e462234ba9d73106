-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: every row names its year and provider and has bed days
select count(*) from indicator_result where period is null or provider is null or coalesce(denominator, 0) <= 0;

-- fail: a year, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the cases coded first, and those coded otherwise, add up to all
select count(*) from (
    select period, provider
    from indicator_result
    where stratum = 'all' or starts_with(stratum, 'coded: ')
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
            and (start_age is null or (start_age >= $youngest_age_years and start_age not between 7001 and 7007))
    )
);

-- warn: no case belongs to a provider, or an age group, that has no bed day in its year
select
    (
        select count(distinct provider_spell.spell_record)
        from provider_spell
        inner join infection_diagnosis on provider_spell.spell_record = infection_diagnosis.spell_record
        where
            provider_spell.finished
            and list_contains($difficile_codes, left(infection_diagnosis.code, 4))
            and not list_contains($excluded_patient_classes, coalesce(provider_spell.patient_class, ''))
            and (
                provider_spell.start_age is null
                or (
                    provider_spell.start_age >= $youngest_age_years
                    and provider_spell.start_age not between 7001 and 7007
                )
            )
    )
    - (select coalesce(sum(numerator), 0)::bigint from indicator_result where stratum = 'all');

-- warn: no stay is longer than a thousand days, which a wrong date of admission makes
select count(*) from provider_spell where finished and discharge_date - admission_date > 1000;
