-- title: Mothers with an infection within 42 days of giving birth, at one provider in a period
-- needs: spells
-- parameter: provider organisation
-- parameter: from_date date
-- parameter: to_date date
--
-- One record per delivery: the mother's own episode of giving birth (type 2 or 5; 3 and 6 are the baby's) at the
-- provider. Infection: ICD-10 O85 or O86 in any position of an episode of the same woman that begins in the 42 days
-- from that episode's begin, at any hospital. Period: the day on which the delivery episode begins.
with delivery as (
    select
        episode_id,
        person_token,
        episode_start
    from episode
    where
        episode_type in ('2', '5')
        and provider = $provider
        and episode_start between $from_date and $to_date
),
infection as (
    select
        person_token,
        episode_start
    from episode
    where
        regexp_matches(coalesce(primary_diagnosis, ''), '^O8[56]')
        or regexp_matches(coalesce(array_to_string(secondary_codes, ' '), ''), '\bO8[56]')
)
select distinct
    delivery.episode_id as record_key,
    delivery.person_token,
    delivery.episode_start as record_date
from delivery
inner join infection on delivery.person_token = infection.person_token
where infection.episode_start between delivery.episode_start and delivery.episode_start + interval 42 day
