-- Emergency readmission of the mother within 42 days of delivery, by delivering provider and financial year.
--
-- Numerator: deliveries after which the mother, sent home, was admitted again at any provider, by one of
--   $emergency_methods, 0 to $days_after_delivery days after the delivery. A delivery counts once.
-- Denominator: deliveries whose stay is finished and whose $days_after_delivery days the data cover.
-- Exclusions: mothers who died in the stay of the delivery; stays not finished; deliveries in regular attendances.
-- Source: see metadata.yaml and infra/decisions/0159-maternity-outliers.md.
with sent_home as (
    select
        financial_year,
        provider,
        bool_or(coalesce(days_to_return <= $days_after_delivery and list_contains($emergency_methods, admission_method), false))
            as readmitted
    from return_after_birth
    where person = 'mother' and birth_date + $days_after_delivery <= followed_until
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
