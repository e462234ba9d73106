-- Table continuous_inpatient_spell: one row per unbroken time as an inpatient, across providers.
--
-- Sources: provider_spell, continuous_inpatient_spell_member. The id is the spell_id of the first provider spell, whose
-- admission it has; the discharge is that of the provider spell that ends last. It has no discharge (finished is
-- false) while one of its provider spells is open.
with several as (
    select continuous_inpatient_spell_id, count(*) as spell_count
    from continuous_inpatient_spell_member
    group by continuous_inpatient_spell_id
    having count(*) > 1
),
stay_of_several as (
    select
        several.continuous_inpatient_spell_id,
        provider_spell.provider,
        provider_spell.discharge_date,
        provider_spell.died_in_hospital,
        bool_and(provider_spell.finished) over (
            partition by several.continuous_inpatient_spell_id
        ) as finished,
        row_number() over (
            partition by several.continuous_inpatient_spell_id
            order by
                provider_spell.discharge_date desc nulls first, member.spell_number desc
        ) as place_from_end
    from several
    inner join continuous_inpatient_spell_member as member
        on several.continuous_inpatient_spell_id = member.continuous_inpatient_spell_id
    inner join provider_spell on member.spell_id = provider_spell.spell_id
),
last_stay as (
    select *
    from stay_of_several
    where place_from_end = 1
)
select
    member.continuous_inpatient_spell_id,
    first_stay.person_token,
    first_stay.provider as first_provider,
    coalesce(last_stay.provider, first_stay.provider) as last_provider,
    first_stay.admission_date,
    first_stay.admission_method,
    coalesce(last_stay.finished, first_stay.finished) as finished,
    case
        when last_stay.continuous_inpatient_spell_id is null then first_stay.discharge_date
        when last_stay.finished then last_stay.discharge_date
    end as discharge_date,
    case
        when last_stay.continuous_inpatient_spell_id is null then first_stay.died_in_hospital
        else last_stay.finished and last_stay.died_in_hospital
    end as died_in_hospital,
    coalesce(several.spell_count, 1)::integer as spell_count
from continuous_inpatient_spell_member as member
inner join provider_spell as first_stay on member.spell_id = first_stay.spell_id
left join several on member.continuous_inpatient_spell_id = several.continuous_inpatient_spell_id
left join last_stay on member.continuous_inpatient_spell_id = last_stay.continuous_inpatient_spell_id
where member.spell_number = 1
