-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: every row names its period and provider, and has no more alerts than months
select count(*)
from indicator_result
where period is null or provider is null or coalesce(denominator, 0) not between 1 and 12 or numerator > denominator;

-- fail: a provider comes once
select count(*) from (
    select period, provider from indicator_result group by period, provider having count(*) > 1
) as repeated;

-- fail: each chart adds up its months by the rule that the definition states
select count(*)
from (
    select
        cusum,
        signal,
        case when $shift > 0 then $shift * (z - $tolerance - $shift / 2) else z - $tolerance end as weight,
        coalesce(lag(cusum) over chart, 0) as before,
        coalesce(lag(signal) over chart, false) as after_signal
    from aggregate_cusum_month
    window chart as (partition by provider order by month)
) as step
where
    signal <> (cusum >= $threshold - 1e-9)
    or abs(
        cusum - greatest(
            0,
            weight + case
                when after_signal and $reset = 'zero' then 0
                when after_signal and $reset = 'half' then before / 2
                else before
            end
        )
    ) > 1e-6;

-- fail: in each month the providers together expect the deaths that they had
select count(*) from (
    select month from aggregate_cusum_month group by month having abs(sum(observed) - sum(expected)) > 1e-6
) as uneven;

-- fail: no provider has a chart that expects fewer deaths a month than a chart needs
select count(*) from (
    select aggregate_cusum_month.provider
    from aggregate_cusum_month
    inner join (
        select
            shmi_spell.provider,
            sum(mortality_pattern.risk) / count(distinct date_trunc('month', shmi_spell.discharge_date))
                as expected_monthly
        from shmi_spell
        inner join mortality_pattern on shmi_spell.pattern = mortality_pattern.pattern
        group by shmi_spell.provider
    ) as provider_month on aggregate_cusum_month.provider = provider_month.provider
    where provider_month.expected_monthly < $minimum_expected - 1e-4
) as small;

-- warn: not more than one chart in three has an alert in the months reported, which points at the model
select greatest(
    count(*) filter (where numerator > 0) - count(*) // 3, 0
) from indicator_result;
