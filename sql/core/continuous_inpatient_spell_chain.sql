-- Table continuous_inpatient_spell_chain: the provider spells of continuous inpatient spells that have several.
--
-- Sources: provider_spell, spell_continuation. Columns: continuous_inpatient_spell_id (the spell_id of its first provider
-- spell), spell_id, spell_number (1 is the first); and of the whole spell spell_count, finished (false while one of its
-- provider spells is open), last_provider, last_discharge_date, last_died_in_hospital (of the one that ends last).
-- Few rows: nearly every continuous inpatient spell is one provider spell.
with recursive walked as (
    select spell_id, goes_on_from as continuous_inpatient_spell_id, 1 as steps
    from spell_continuation
    where goes_on_from not in (select spell_id from spell_continuation)
    union all
    select spell_continuation.spell_id, walked.continuous_inpatient_spell_id, walked.steps + 1
    from spell_continuation
    inner join walked on spell_continuation.goes_on_from = walked.spell_id
),
member as (
    select continuous_inpatient_spell_id, spell_id, steps
    from walked
    union all
    select distinct continuous_inpatient_spell_id, continuous_inpatient_spell_id as spell_id, 0 as steps
    from walked
),
numbered as (
    select
        member.continuous_inpatient_spell_id,
        member.spell_id,
        provider_spell.provider,
        provider_spell.finished,
        provider_spell.discharge_date,
        provider_spell.died_in_hospital,
        row_number() over (
            partition by member.continuous_inpatient_spell_id
            order by provider_spell.admission_date, member.steps, member.spell_id
        ) as spell_number
    from member
    inner join provider_spell on member.spell_id = provider_spell.spell_id
)
select
    continuous_inpatient_spell_id,
    spell_id,
    spell_number::integer as spell_number,
    (count(*) over whole)::integer as spell_count,
    bool_and(finished) over whole as finished,
    first_value(provider) over from_the_end as last_provider,
    first_value(discharge_date) over from_the_end as last_discharge_date,
    first_value(died_in_hospital) over from_the_end as last_died_in_hospital
from numbered
window
    whole as (partition by continuous_inpatient_spell_id),
    from_the_end as (
        partition by continuous_inpatient_spell_id
        order by discharge_date desc nulls first, spell_number desc
    )
