-- Alerts of the aggregate cumulative sum charts of deaths against expected, by provider.
--
-- Numerator: months reported in which the provider's chart of monthly z-scores reached its threshold.
-- Denominator: months reported that the chart has a point for.
-- Exclusions: those of shmi_spell, diagnoses without a model; providers that expect fewer deaths a month than a chart
--   needs.
-- Source: table aggregate_cusum_month, which infra/aggregate_charts.py leaves; infra/decisions/0180-aggregate-cusum.md.
with reported as (
    select
        mortality_period.period,
        aggregate_cusum_month.provider,
        aggregate_cusum_month.signal
    from aggregate_cusum_month
    inner join mortality_period
        on aggregate_cusum_month.month between mortality_period.report_from and mortality_period.report_to
)
select
    period,
    provider,
    'all' as stratum,
    count(*) filter (where signal) as numerator,
    count(*) as denominator
from reported
group by period, provider
order by period, provider, stratum
