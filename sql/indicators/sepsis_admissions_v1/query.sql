-- Emergency admissions for sepsis, per 1,000 emergency admissions, by provider and year of discharge.
--
-- Numerator: emergency admissions whose primary diagnosis, in the first episode, is a code of sepsis ($sepsis_codes).
-- Denominator: finished provider spells that began as an emergency ($emergency_methods).
-- Exclusions: regular attenders ($excluded_patient_classes).
-- Source: the list of codes of a Scottish parliamentary answer; see metadata.yaml and
--   infra/decisions/0151-infections-from-codes.md. The rules of coding changed in April 2017.
with admission as (
    select
        financial_year,
        provider,
        -- A code of the list has three or four characters and stands for all that begin so.
        coalesce(
            list_contains($sepsis_codes, left(primary_diagnosis, 3))
            or list_contains($sepsis_codes, left(primary_diagnosis, 4)),
            false
        ) as is_sepsis
    from provider_spell
    where
        finished
        and list_contains($emergency_methods, coalesce(admission_method, ''))
        and not list_contains($excluded_patient_classes, coalesce(patient_class, ''))
)
select
    financial_year as period,
    provider,
    'all' as stratum,
    count(*) filter (where is_sepsis) as numerator,
    count(*) as denominator
from admission
group by financial_year, provider
order by financial_year, provider
