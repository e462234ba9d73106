-- Emergency caesarean section as a share of deliveries, by provider and financial year of delivery.
--
-- Numerator: deliveries by emergency caesarean section ($counted_mode).
-- Denominator: deliveries of a known mode on days that the data cover.
-- Exclusions: deliveries of unknown mode.
-- Source: mode of delivery as in infra/decisions/0150-delivery.md; see metadata.yaml.
with known as (
    select financial_year, provider, mode = $counted_mode as counted
    from delivery
    where followed_until is not null and mode <> 'unknown'
)
select
    financial_year as period,
    provider,
    'all' as stratum,
    count(*) filter (where counted) as numerator,
    count(*) as denominator
from known
group by financial_year, provider
order by financial_year, provider
