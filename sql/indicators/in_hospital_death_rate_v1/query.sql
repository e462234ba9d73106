-- In-hospital death rate, by provider and financial year of discharge.
--
-- Numerator: deaths in hospital among the deaths within 30 days that crude_death_rate counts: each once, for the
--   last of the person's provider spells that this indicator covers.
-- Denominator: finished provider spells discharged in the financial year.
-- Exclusions: day cases and regular attenders ($excluded_patient_classes); stillbirths (DISMETH 5).
-- Source: scope and outcome of the Summary Hospital-level Mortality Indicator, without its case-mix adjustment; see
--   metadata.yaml and infra/decisions/0104-death-outcome.md.
with cohort as (
    select
        provider_spell.financial_year,
        provider_spell.provider,
        provider_spell.spell_id,
        provider_spell.person_token,
        spell_outcome.died_in_hospital,
        spell_outcome.died_within_30_days,
        spell_outcome.death_order
    from provider_spell
    -- Stillbirths have no outcome, so this join leaves them out.
    inner join spell_outcome on provider_spell.spell_id = spell_outcome.spell_id
    where
        provider_spell.finished
        and not list_contains($excluded_patient_classes, coalesce(provider_spell.patient_class, ''))
),
death as (
    select
        spell_id,
        died_in_hospital,
        row_number() over (partition by person_token order by death_order) as place
    from cohort
    where died_within_30_days
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
