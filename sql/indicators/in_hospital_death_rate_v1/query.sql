-- In-hospital death rate, by provider and financial year of discharge.
--
-- Numerator: deaths in hospital among the deaths within 30 days that crude_death_rate counts: each once, for the
--   last of the person's provider spells that this indicator covers.
-- Denominator: finished provider spells discharged in the financial year.
-- Exclusions: day cases and regular attenders ($excluded_patient_classes); stillbirths (DISMETH 5).
-- Source: scope and outcome of the Summary Hospital-level Mortality Indicator, without its case-mix adjustment; see
--   metadata.yaml and infra/decisions/0104-death-outcome.md.
with cohort as not materialized (
    select spell_id, person_token, financial_year, provider
    from provider_spell
    where
        finished
        and coalesce(discharge_method, '') <> '5'
        and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
),
death as (
    select
        cohort.spell_id,
        spell_outcome.died_in_hospital,
        row_number() over (partition by cohort.person_token order by spell_outcome.death_order) as place
    from cohort
    inner join spell_outcome on cohort.spell_id = spell_outcome.spell_id
    where spell_outcome.died_within_30_days
),
counted_death as (
    select spell_id
    from death
    where place = 1 and died_in_hospital
)
select
    cohort.financial_year as period,
    cohort.provider,
    'all' as stratum,
    count(counted_death.spell_id) as numerator,
    count(*) as denominator
from cohort
left join counted_death on cohort.spell_id = counted_death.spell_id
group by cohort.financial_year, cohort.provider
order by cohort.financial_year, cohort.provider
