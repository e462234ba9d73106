-- How many spells are coded as palliative care, by provider.
--
-- Numerator: spells that have a code for palliative care or were under the specialty of palliative medicine, in any
--   episode.
-- Denominator: the spells of the standardised ratio, by the months it reports.
-- Exclusions: those of the standardised ratio (shmi), see sql/core/mortality_parameters.yaml.
-- Source: NHS Digital, SHMI publication pages (contextual indicators); see metadata.yaml and infra/decisions/0121.
with spell as (
    select *
    from shmi_spell
    where in_report and pattern is not null
)
select
    mortality_period.period,
    spell.provider,
    'all' as stratum,
    count(*) filter (where spell.is_palliative) as numerator,
    count(*) as denominator
from spell
cross join mortality_period
group by mortality_period.period, spell.provider
order by mortality_period.period, spell.provider, stratum
