-- Puerperal infection in a wider sense within 42 days of delivery, observed and expected, by delivering provider and
-- financial year.
--
-- Numerator: deliveries for which one of $infection_codes is recorded, in any position, in the delivery episode, in an
--   episode of the same stay that started on or after the delivery, or in a later admission at any provider; all 0 to
--   $days_after_delivery days after it. A delivery counts once, for the provider where it was.
-- Denominator: deliveries whose $days_after_delivery days are all covered by the data.
-- Expected: for each case-mix group of a year the national share of infected deliveries, added up over the
--   provider's deliveries.
-- Exclusions: deliveries less than $days_after_delivery days before the end of the data.
-- Source: puerperal_infection_42d, which see, by a longer list of codes; metadata.yaml and
--   infra/decisions/0158-puerperal-infection.md.
with infected_delivery as (
    select distinct delivery_record
    from puerperal_infection
    where
        days_after_delivery <= $days_after_delivery
        and (list_contains($infection_codes, left(code, 3)) or list_contains($infection_codes, code))
),
followed as (
    select
        delivery.financial_year,
        delivery.provider,
        delivery_case_mix.case_mix_group,
        count(*) as deliveries,
        count(infected_delivery.delivery_record) as infections
    from delivery
    inner join delivery_case_mix on delivery.delivery_record = delivery_case_mix.delivery_record
    left join infected_delivery on delivery.delivery_record = infected_delivery.delivery_record
    where delivery.delivery_date + $days_after_delivery <= delivery.followed_until
    group by delivery.financial_year, delivery.provider, delivery_case_mix.case_mix_group
),
compared as (
    select *, deliveries * (sum(infections) over everywhere / sum(deliveries) over everywhere) as expected
    from followed
    window everywhere as (partition by financial_year, case_mix_group)
)
select
    financial_year as period,
    provider,
    'all' as stratum,
    sum(infections)::bigint as numerator,
    sum(deliveries)::bigint as denominator,
    round(sum(expected), 6) as expected
from compared
group by financial_year, provider
order by financial_year, provider
