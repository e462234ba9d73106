-- Observed and expected deaths in hospital or within 30 days of discharge, by provider, diagnosis group and site.
--
-- Numerator: deaths in hospital or 0 to 30 days after discharge, each counted once, for the last of the person's spells
--   at a covered provider.
-- Denominator: finished provider spells whose diagnosis a model covers, discharged in the last twelve complete
--   months of the data. Expected: the sum over these spells of the risk that the model of their diagnosis group gives.
-- Exclusions: day cases and regular attenders, stillbirths, providers that are no acute non-specialist trusts, COVID-19
--   before its day, spells without a valid diagnosis; see sql/core/mortality_parameters.yaml.
-- Source: Summary Hospital-level Mortality Indicator; see metadata.yaml and infra/decisions/0120, 0121.
with scored as (
    select
        shmi_spell.provider,
        coalesce(shmi_spell.site, 'not known') as site,
        mortality_pattern.diagnosis_group,
        shmi_spell.died,
        -- As whole numbers of the last decimal place: their sum does not depend on the order.
        mortality_pattern.risk::decimal(18, 15) as risk
    from shmi_spell
    inner join mortality_pattern on shmi_spell.pattern = mortality_pattern.pattern
    where shmi_spell.in_report
),
counted as (
    select
        provider,
        diagnosis_group,
        site,
        grouping(diagnosis_group) = 0 as is_group,
        grouping(site) = 0 as is_site,
        count(*) filter (where died) as deaths,
        count(*) as spells,
        sum(risk) as expected
    from scored
    group by grouping sets ((provider), (provider, diagnosis_group), (provider, site))
)
select
    mortality_period.period,
    counted.provider,
    case
        when counted.is_group
            then 'diagnosis group: ' || mortality_group.diagnosis_group || ' ' || mortality_group.label
        when counted.is_site then 'site: ' || counted.site
        else 'all'
    end as stratum,
    counted.deaths as numerator,
    counted.spells as denominator,
    round(counted.expected::double, 6) as expected
from counted
cross join mortality_period
left join mortality_group on counted.diagnosis_group = mortality_group.diagnosis_group
order by mortality_period.period, counted.provider, stratum
