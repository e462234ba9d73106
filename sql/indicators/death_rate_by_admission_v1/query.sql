-- Share of spells that ended in death or were followed by it within 30 days, by method of admission and deprivation.
--
-- Numerator: deaths in hospital or 0 to 30 days after discharge, each counted once, as in the standardised ratio.
-- Denominator: the spells of the standardised ratio, by the months it reports.
-- Exclusions: those of the standardised ratio (shmi), see sql/core/mortality_parameters.yaml. An unknown method of
--   admission is counted as non-elective, as the publication does.
-- Source: NHS Digital, SHMI publication pages (contextual indicators); see metadata.yaml and infra/decisions/0121.
with spell as (
    select
        provider,
        case when admission_class = 'elective' then 'elective' else 'non-elective' end as admission,
        coalesce(
            list_extract(
                ['1 most deprived', '2', '3', '4', '5 least deprived'], ((deprivation_decile + 1) // 2)::integer
            ),
            'not known'
        ) as deprivation,
        died
    from shmi_spell
    where in_report and pattern is not null
),
counted as (
    select
        provider,
        admission,
        deprivation,
        count(*) filter (where died) as deaths,
        count(*) as spells
    from spell
    group by grouping sets ((provider), (provider, admission), (provider, deprivation))
)
select
    mortality_period.period,
    counted.provider,
    case
        when counted.admission is not null then 'admission: ' || counted.admission
        when counted.deprivation is not null then 'deprivation quintile: ' || counted.deprivation
        else 'all'
    end as stratum,
    counted.deaths as numerator,
    counted.spells as denominator
from counted
cross join mortality_period
order by mortality_period.period, counted.provider, stratum
