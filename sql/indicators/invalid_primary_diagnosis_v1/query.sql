-- Share of spells without a valid diagnosis, by provider.
--
-- Numerator: spells whose diagnosis is missing, invalid or a code of no diagnosis group, after a look at the second
--   episode.
-- Denominator: all spells in the scope of the standardised ratio, by the months it reports.
-- Exclusions: those of the standardised ratio (shmi), see sql/core/mortality_parameters.yaml.
-- Source: NHS Digital, SHMI publication pages (contextual indicators); see metadata.yaml and infra/decisions/0121.
with spell as (
    select *
    from shmi_spell
    where in_report
)
select
    mortality_period.period,
    spell.provider,
    'all' as stratum,
    count(*) filter (where spell.diagnosis_group is null) as numerator,
    count(*) as denominator
from spell
cross join mortality_period
group by mortality_period.period, spell.provider
order by mortality_period.period, spell.provider, stratum
