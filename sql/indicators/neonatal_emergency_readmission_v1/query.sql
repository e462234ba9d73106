-- Emergency readmission of the baby within 28 days of birth, by provider of birth and financial year.
--
-- Numerator: babies who, sent home, were admitted again at any provider, by one of $emergency_methods, 0 to
--   $days_after_birth days after birth. A baby counts once.
-- Denominator: babies who have a birth record of their own, born alive, whose stay is finished and whose
--   $days_after_birth days the data cover.
-- Exclusions: stillbirths; babies who died in the stay of their birth; stays not finished.
-- Source: see metadata.yaml and infra/decisions/0159-maternity-outliers.md.
with sent_home as (
    select
        financial_year,
        provider,
        bool_or(coalesce(days_to_return <= $days_after_birth and list_contains($emergency_methods, admission_method), false))
            as readmitted
    from return_after_birth
    where person = 'baby' and birth_date + $days_after_birth <= followed_until
    group by spell_id, financial_year, provider
)
select
    financial_year as period,
    provider,
    'all' as stratum,
    count(*) filter (where readmitted) as numerator,
    count(*) as denominator
from sent_home
group by financial_year, provider
order by financial_year, provider
