-- Table spell_outcome: what became of the patient after each finished provider spell.
--
-- Sources: provider_spell; death_link: one row per finished spell of each person with a registered death, whole days
-- from discharge to death, exact from minus the length of stay to 31 and capped outside that.
-- A registered date of death comes before DISMETH 4; DISMETH 4 fills where no death is registered. Stillbirths
-- (DISMETH 5) have no outcome. A person dies once: death_order is 1 for the spell the death belongs to, and an
-- indicator counts the smallest death_order among the spells it covers.
-- Rules and sources: infra/decisions/0104-death-outcome.md.
with stay as not materialized (
    select
        provider_spell.spell_id,
        provider_spell.person_token,
        provider_spell.admission_date,
        provider_spell.discharge_date,
        provider_spell.discharge_date - provider_spell.admission_date as length_of_stay_days,
        provider_spell.died_in_hospital as says_died,
        death_link.days_to_death as registered_days
    from provider_spell
    left join death_link on provider_spell.spell_id = death_link.spell_id
    where
        provider_spell.finished
        and coalesce(provider_spell.discharge_method, '') <> '5'
),
hospital_death as (
    select person_token, max(discharge_date) as hospital_death_date
    from provider_spell
    where died_in_hospital
    group by person_token
),
dated as (
    select
        stay.*,
        -- An unregistered death in one hospital also dates the death for stays that ended before it.
        coalesce(stay.registered_days, hospital_death.hospital_death_date - stay.discharge_date) as days_to_death
    from stay
    left join hospital_death on stay.person_token = hospital_death.person_token
),
judged as (
    select
        *,
        case
            -- A death registered up to three days after a stay that ended in death is the same death (the rule by
            -- which the national linkage keeps the hospital's date), and so is one registered before its end.
            when says_died then registered_days is null or registered_days <= 3
            -- Registered inside a stay that does not say so: the registered date comes first.
            else coalesce(registered_days < 0 and registered_days >= -length_of_stay_days, false)
        end as died_in_hospital,
        days_to_death between 0 and 30 as died_soon_after
    from dated
    where days_to_death is not null
),
death as (
    select
        spell_id,
        died_in_hospital,
        died_in_hospital or died_soon_after as died_within_30_days,
        case when died_in_hospital then 0 else days_to_death end as days_to_death,
        case when registered_days is null then 'hospital' else 'registered' end as death_source,
        row_number() over (
            partition by person_token, died_in_hospital or died_soon_after
            order by
                (died_in_hospital and says_died) desc, discharge_date desc, admission_date desc, spell_id desc
        ) as death_order,
        says_died and coalesce(registered_days > 30, false) as registered_long_after_hospital_death,
        coalesce(registered_days < -length_of_stay_days, false) as registered_before_admission
    from judged
)
select
    stay.spell_id,
    coalesce(death.died_in_hospital, false) as died_in_hospital,
    coalesce(death.died_within_30_days, false) as died_within_30_days,
    case when death.died_within_30_days then death.days_to_death end as days_to_death,
    case when death.died_within_30_days then death.death_source end as death_source,
    case when death.died_within_30_days then death.death_order::integer end as death_order,
    coalesce(death.registered_long_after_hospital_death, false) as registered_long_after_hospital_death,
    coalesce(death.registered_before_admission, false) as registered_before_admission
from stay
left join death on stay.spell_id = death.spell_id
