-- Perinatal mortality: stillbirths and deaths in the first week of life among births, by provider and financial
-- year.
--
-- Numerator: stillbirths, and babies born alive who died less than $early_neonatal_days days after birth.
-- Denominator: births, live and still, that the mothers' delivery records tell of.
-- Exclusions: stillbirths known to be before $earliest_stillbirth_weeks weeks; births less than $early_neonatal_days
--   days before the end of the data.
-- Source: the definition of perinatal death in national statistics; see metadata.yaml and
--   infra/decisions/0159-maternity-outliers.md.
with followed as (
    select *
    from birth
    where
        birth_date + $early_neonatal_days <= followed_until
        and not (stillborn and coalesce(gestation_weeks < $earliest_stillbirth_weeks, false))
),
early_death as (
    -- The outcome of the baby's first stay tells of a death after a transfer too, since it looks 30 days ahead.
    select followed.spell_id
    from followed
    inner join provider_spell on followed.spell_id = provider_spell.spell_id
    inner join spell_outcome on followed.spell_id = spell_outcome.spell_id
    where
        not followed.stillborn
        and spell_outcome.died_within_30_days
        and (provider_spell.discharge_date - followed.birth_date) + spell_outcome.days_to_death < $early_neonatal_days
),
counted as (
    select
        followed.financial_year,
        followed.provider,
        followed.birth_number is not null as told_by_mother,
        early_death.spell_id is not null
        or (followed.stillborn and followed.birth_number is not null) as died
    from followed
    left join early_death on followed.spell_id = early_death.spell_id
)
select
    financial_year as period,
    provider,
    'all' as stratum,
    count(*) filter (where died) as numerator,
    count(*) filter (where told_by_mother) as denominator
from counted
group by financial_year, provider
-- A provider that has babies' records only has no number of births to set deaths against.
having count(*) filter (where told_by_mother) > 0
order by financial_year, provider
