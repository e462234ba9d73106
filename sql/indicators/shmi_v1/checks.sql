-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: no provider has more deaths than spells
select count(*) from indicator_result where numerator > denominator;

-- fail: no number of expected deaths is negative, missing or above the spells
select count(*) from indicator_result where expected is null or expected < 0 or expected > denominator;

-- fail: a period, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: groups and sites add up to the whole provider
select count(*) from (
    select
        provider,
        split_part(stratum, ':', 1) as dimension,
        sum(numerator) as deaths,
        sum(denominator) as spells,
        sum(expected) as expected
    from indicator_result
    where stratum <> 'all'
    group by provider, dimension
) as added
full join (select * from indicator_result where stratum = 'all') as whole on added.provider = whole.provider
where
    coalesce(added.deaths <> whole.numerator, true)
    or coalesce(added.spells <> whole.denominator, true)
    or coalesce(abs(added.expected - whole.expected) > $largest_difference, true);

-- fail: no spell is in the model twice
select count(*) from (
    select spell_record from shmi_spell group by spell_record having count(*) > 1
) as repeated;

-- fail: every risk is between 0 and 1
select count(*) from mortality_pattern where coalesce(risk not between 0 and 1, true);

-- fail: the patterns of the models are the spells, once each
select count(*) from (
    select pattern, count(*) as spells, count(*) filter (where died) as deaths
    from shmi_spell
    where pattern is not null
    group by pattern
) as found
full join mortality_pattern on found.pattern = mortality_pattern.pattern
where
    coalesce(found.spells <> mortality_pattern.spells, true)
    or coalesce(found.deaths <> mortality_pattern.deaths, true);

-- fail: in every diagnosis group expected and observed deaths agree, over each year that the model keeps apart
select count(*) from (
    select
        mortality_pattern.diagnosis_group,
        coalesce(year.merged_into, year.level) as kept_apart,
        sum(mortality_pattern.deaths) - sum(mortality_pattern.spells * mortality_pattern.risk) as difference
    from mortality_pattern
    inner join mortality_coefficient as year
        on
            year.factor = 'year_index'
            and mortality_pattern.diagnosis_group = year.diagnosis_group
            and mortality_pattern.year_index = year.place + 1
    group by mortality_pattern.diagnosis_group, kept_apart
    having abs(difference) > $largest_difference
) as apart;

-- fail: there are no more deaths than persons who died
select greatest(
    (select count(*) from shmi_spell where died)
    - (
        select count(distinct provider_spell.person_token)
        from spell_outcome
        inner join provider_spell on spell_outcome.spell_id = provider_spell.spell_id
        where spell_outcome.died_within_30_days
    ),
    0
);

-- warn: the months reported have expected and observed deaths agree to two in a hundred over all providers
select count(*) from (
    select
        sum(numerator) - sum(expected) as difference,
        sum(expected) as expected
    from indicator_result
    where stratum = 'all'
) as total
-- Not exactly: a group whose years had to be merged has no year of its own (infra/decisions/0120-case-mix-model.md).
where abs(difference) > greatest(1, 0.02 * expected);

-- warn: hardly any spell in scope is without a diagnosis that a model covers
select count(*) filter (where pattern is null)
from shmi_spell
having count(*) filter (where pattern is null) > $uncovered_share * count(*);
