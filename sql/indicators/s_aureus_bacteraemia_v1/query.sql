-- Staphylococcus aureus codes in hospital stays, per 1,000 bed days, by provider and year of discharge.
--
-- Numerator: finished provider spells that have a code of S. aureus ($staphylococcus_codes) in any position of any episode.
-- Denominator: bed days (days from admission to discharge) of the finished provider spells of the year.
-- Exclusions: regular attenders ($excluded_patient_classes).
-- Source: see metadata.yaml and infra/decisions/0151-infections-from-codes.md. Resistant is a spell of which one episode
--   has both a code of the infection and one of meticillin resistance ($resistance_codes).
with stay as (
    select spell_record, financial_year, provider, discharge_date - admission_date as bed_days
    from provider_spell
    where
        finished
        and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
),
infected_episode as (
    select
        spell_record,
        record,
        bool_or(list_contains($staphylococcus_codes, left(code, 4))) as is_infected,
        bool_or(list_contains($resistance_codes, left(code, 4))) as is_resistant
    from infection_diagnosis
    group by spell_record, record
),
infected as (
    select spell_record, bool_or(is_resistant) as is_resistant
    from infected_episode
    where is_infected
    group by spell_record
),
by_provider as (
    select
        stay.financial_year,
        stay.provider,
        count(infected.spell_record) as cases,
        count(*) filter (where infected.is_resistant) as resistant_cases,
        sum(stay.bed_days)::bigint as bed_days
    from stay
    left join infected on stay.spell_record = infected.spell_record
    group by stay.financial_year, stay.provider
),
cell as (
    select financial_year, provider, 'all' as stratum, cases, bed_days
    from by_provider
    union all
    select
        financial_year, provider, 'resistance: meticillin resistant' as stratum, resistant_cases as cases, bed_days
    from by_provider
    union all
    select
        financial_year, provider, 'resistance: not coded as resistant' as stratum, cases - resistant_cases as cases,
        bed_days
    from by_provider
)
select
    financial_year as period,
    provider,
    stratum,
    cases as numerator,
    bed_days as denominator
from cell
where bed_days > 0
order by financial_year, provider, stratum
