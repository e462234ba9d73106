-- Secondary diagnoses per spell, by provider and method of admission.
--
-- Numerator: secondary diagnoses, up to 19, of the episode whose diagnosis counts.
-- Denominator: the spells of the standardised ratio, by the months it reports.
-- Exclusions: those of the standardised ratio (shmi), see sql/core/mortality_parameters.yaml. An unknown method of
--   admission is counted as non-elective, as the publication does.
-- Source: NHS Digital, SHMI publication pages (contextual indicators); see metadata.yaml and infra/decisions/0121.
with spell as (
    select
        provider,
        case when admission_class = 'elective' then 'elective' else 'non-elective' end as admission,
        secondary_count
    from shmi_spell
    where in_report and pattern is not null
),
counted as (
    select
        provider,
        admission,
        sum(secondary_count)::bigint as codes,
        count(*) as spells
    from spell
    group by grouping sets ((provider), (provider, admission))
)
select
    mortality_period.period,
    counted.provider,
    case when counted.admission is null then 'all' else 'admission: ' || counted.admission end as stratum,
    counted.codes as numerator,
    counted.spells as denominator
from counted
cross join mortality_period
order by mortality_period.period, counted.provider, stratum
