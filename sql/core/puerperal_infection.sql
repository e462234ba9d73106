-- Table puerperal_infection: the codes of infections after each delivery, one row per delivery, code and day.
--
-- Sources: delivery, infection_diagnosis, episode, provider_spell. Columns: delivery_record, code (the first four
-- characters), days_after_delivery. A code counts from the delivery on: in any position, in the delivery episode (day 0),
-- in an episode of the same stay that started on or after the delivery, or in a later admission at any provider. How
-- many days and which codes are the indicator's.
with infection as (
    select
        infection_diagnosis.record,
        left(infection_diagnosis.code, 4) as code,
        episode.episode_start,
        provider_spell.spell_id,
        provider_spell.person_token,
        provider_spell.admission_date
    from infection_diagnosis
    inner join episode on infection_diagnosis.record = episode.record
    inner join provider_spell on infection_diagnosis.spell_record = provider_spell.spell_record
),
placed as (
    select
        delivery.delivery_record,
        infection.code,
        case
            when infection.record = delivery.delivery_record then 0
            -- Codes carry no date: within the stay of the delivery the start of the episode stands in.
            when infection.spell_id = delivery.spell_id then infection.episode_start - delivery.delivery_date
            else infection.admission_date - delivery.delivery_date
        end as days_after_delivery
    from delivery
    inner join infection on delivery.person_token = infection.person_token
)
select distinct delivery_record, code, days_after_delivery
from placed
where days_after_delivery >= 0
