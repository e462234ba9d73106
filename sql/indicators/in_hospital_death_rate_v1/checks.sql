-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more deaths than stays
select count(*) from indicator_result where numerator > denominator;

-- fail: every row names its year and provider
select count(*) from indicator_result where period is null or provider is null or denominator is null;

-- fail: a year and provider come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the stays add up to the finished spells that the exclusions leave
select abs(
    (select coalesce(sum(denominator), 0)::bigint from indicator_result)
    - (
        select count(*)
        from provider_spell
        where
            finished
            and coalesce(discharge_method, '') <> '5'
            and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
    )
);

-- fail: there are no more deaths than persons who died
select greatest(
    (select coalesce(sum(numerator), 0)::bigint from indicator_result)
    - (
        select count(distinct provider_spell.person_token)
        from spell_outcome
        inner join provider_spell on spell_outcome.spell_id = provider_spell.spell_id
        where spell_outcome.died_in_hospital
    ),
    0
);

-- warn: no stay ended in death although a much later death is registered
select count(*) from spell_outcome where registered_long_after_hospital_death;

-- warn: no death is registered before the admission
select count(*) from spell_outcome where registered_before_admission;
