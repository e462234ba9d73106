-- Share of deaths that came after discharge, by provider.
--
-- Numerator: deaths 0 to 30 days after discharge, not in hospital.
-- Denominator: the deaths of the standardised ratio, in hospital or within 30 days of discharge.
-- Exclusions: those of the standardised ratio (shmi), see sql/core/mortality_parameters.yaml.
-- Source: NHS Digital, SHMI publication pages (contextual indicators); see metadata.yaml and infra/decisions/0121.
with spell as (
    select *
    from shmi_spell
    where in_report and died and pattern is not null
)
select
    mortality_period.period,
    spell.provider,
    'all' as stratum,
    count(*) filter (where not spell.died_in_hospital) as numerator,
    count(*) as denominator
from spell
cross join mortality_period
group by mortality_period.period, spell.provider
order by mortality_period.period, spell.provider, stratum
