-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: every row names its period and provider and has a chart
select count(*) from indicator_result where period is null or provider is null or coalesce(denominator, 0) < 1;

-- fail: a period, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: the diagnosis groups of a provider add up to all
select count(*) from (
    select period, provider
    from indicator_result
    group by period, provider
    having
        sum(numerator) <> 2 * max(numerator) filter (where stratum = 'all')
        or sum(denominator) <> 2 * max(denominator) filter (where stratum = 'all')
) as uneven;

-- fail: every alert of the months reported belongs to a chart
select abs(
    (select coalesce(sum(numerator), 0)::bigint from indicator_result where stratum = 'all')
    - (
        select count(*)
        from cusum_alert
        inner join mortality_period
            on cusum_alert.signal_date between mortality_period.report_from and mortality_period.report_to
    )
);

-- fail: an alert stands on more deaths than expected
select count(*) from cusum_alert where deaths <= expected;

-- warn: not more than one chart in twenty has an alert, which points at the model rather than at hospitals
select greatest(
    (select count(distinct (provider, diagnosis_group)) from cusum_alert) - (select count(*) from cusum_chart) // 20, 0
);
