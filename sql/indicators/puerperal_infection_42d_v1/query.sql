-- Puerperal infection within 42 days of delivery, observed and expected, by delivering provider and financial year.
--
-- Numerator: deliveries for which one of $infection_codes is recorded, in any position, in the delivery episode, in an
--   episode of the same stay that started on or after the delivery, or in a later admission at any provider; all 0 to
--   $days_after_delivery days after it. A delivery counts once, for the provider where it was.
-- Denominator: deliveries whose $days_after_delivery days are all covered by the data.
-- Expected: for each case-mix group of a year the national share of infected deliveries, added up over the
--   provider's deliveries.
-- Exclusions: deliveries less than $days_after_delivery days before the end of the data.
-- Source: Palmer and others, BMJ 2015;351:h5774; see metadata.yaml and infra/decisions/0158-puerperal-infection.md.
with infected_episode as (
    select distinct record
    from episode_diagnosis
    where list_contains($infection_codes, left(code, 3)) or list_contains($infection_codes, left(code, 4))
),
infection as (
    select
        infected_episode.record,
        episode.episode_start,
        provider_spell.spell_id,
        provider_spell.person_token,
        provider_spell.admission_date
    from infected_episode
    inner join episode on infected_episode.record = episode.record
    inner join spell_episode on infected_episode.record = spell_episode.record
    inner join provider_spell on spell_episode.spell_record = provider_spell.spell_record
),
infected_delivery as (
    select distinct delivery.delivery_record
    from delivery
    inner join infection on delivery.person_token = infection.person_token
    where
        infection.record = delivery.delivery_record
        or (
            -- Codes carry no date: within the stay of the delivery the start of the episode stands in.
            case
                when infection.spell_id = delivery.spell_id then infection.episode_start
                else infection.admission_date
            end between delivery.delivery_date and delivery.delivery_date + $days_after_delivery
        )
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
national as (
    select
        financial_year,
        case_mix_group,
        sum(infections) / sum(deliveries) as share
    from followed
    group by financial_year, case_mix_group
)
select
    followed.financial_year as period,
    followed.provider,
    'all' as stratum,
    sum(followed.infections)::bigint as numerator,
    sum(followed.deliveries)::bigint as denominator,
    round(sum(followed.deliveries * national.share), 6) as expected
from followed
inner join national
    on followed.financial_year = national.financial_year and followed.case_mix_group = national.case_mix_group
group by followed.financial_year, followed.provider
order by followed.financial_year, followed.provider
