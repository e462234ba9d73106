-- Clostridioides difficile infection in hospital stays, per 1,000 bed days, by provider and year of discharge.
--
-- Numerator: finished provider spells that have the code ($difficile_codes) in any position of any episode.
-- Denominator: bed days (days from admission to discharge) of the finished provider spells of the year.
-- Exclusions: regular attenders ($excluded_patient_classes); patients under two years ($youngest_age_years).
-- Source: see metadata.yaml and infra/decisions/0151-infections-from-codes.md. Where the code stands is a stratum: it
--   hints at, and cannot settle, whether the infection came about in the hospital.
with stay as (
    select
        spell_record,
        financial_year,
        provider,
        discharge_date - admission_date as bed_days,
        case
            when start_age is null or start_age > 7007 then 'not known'
            when start_age >= $older_age_years then '65 and over'
            else '2 to 64'
        end as age_group
    from provider_spell
    where
        finished
        and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
        -- 7001 to 7007 are ages under one year.
        and not coalesce(start_age < $youngest_age_years or start_age between 7001 and 7007, false)
),
infected as (
    select spell_record, bool_or(is_primary and episode_number = 1) as is_first_primary
    from infection_diagnosis
    where list_contains($difficile_codes, left(code, 4))
    group by spell_record
),
by_age as (
    select
        stay.financial_year,
        stay.provider,
        stay.age_group,
        count(infected.spell_record) as cases,
        count(*) filter (where infected.is_first_primary) as first_primary_cases,
        sum(stay.bed_days)::bigint as bed_days
    from stay
    left join infected on stay.spell_record = infected.spell_record
    group by stay.financial_year, stay.provider, stay.age_group
),
by_provider as (
    select
        financial_year,
        provider,
        sum(cases)::bigint as cases,
        sum(first_primary_cases)::bigint as first_primary_cases,
        sum(bed_days)::bigint as bed_days
    from by_age
    group by financial_year, provider
),
cell as (
    select financial_year, provider, 'all' as stratum, cases, bed_days
    from by_provider
    union all
    select financial_year, provider, 'age: ' || age_group as stratum, cases, bed_days
    from by_age
    union all
    select
        financial_year, provider, 'coded: primary diagnosis of the first episode' as stratum,
        first_primary_cases as cases, bed_days
    from by_provider
    union all
    select
        financial_year, provider, 'coded: secondary or in a later episode' as stratum,
        cases - first_primary_cases as cases, bed_days
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
