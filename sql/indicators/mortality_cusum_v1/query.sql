-- Alerts of the cumulative sum charts of deaths against expected, by provider and diagnosis group.
--
-- Numerator: alerts in the months reported: a chart of deaths in or within 30 days of discharge, case by case in the
--   order of discharge, reached its threshold.
-- Denominator: charts, one for each diagnosis group in which enough deaths are expected over the model's years.
-- Exclusions: those of mortality_risk; groups of a provider that expect fewer deaths than a chart needs.
-- Source: tables cusum_chart and cusum_alert, which infra/cusum_charts.py leaves; infra/decisions/0152-mortality-cusum.md.
with reported as (
    select cusum_alert.provider, cusum_alert.diagnosis_group, count(*) as alerts
    from cusum_alert
    inner join mortality_period
        on cusum_alert.signal_date between mortality_period.report_from and mortality_period.report_to
    group by cusum_alert.provider, cusum_alert.diagnosis_group
),
charted as (
    select
        cusum_chart.provider,
        cusum_chart.diagnosis_group,
        cusum_chart.label,
        coalesce(reported.alerts, 0) as alerts
    from cusum_chart
    left join reported
        on
            cusum_chart.provider = reported.provider
            and cusum_chart.diagnosis_group = reported.diagnosis_group
),
cell as (
    select provider, 'all' as stratum, sum(alerts)::bigint as alerts, count(*) as charts
    from charted
    group by provider
    union all
    select
        provider,
        'diagnosis group: ' || diagnosis_group || ' ' || label as stratum,
        alerts,
        1::bigint as charts
    from charted
)
select
    mortality_period.period,
    cell.provider,
    cell.stratum,
    cell.alerts as numerator,
    cell.charts as denominator
from cell
cross join mortality_period
order by mortality_period.period, cell.provider, cell.stratum
