-- Table continuous_inpatient_spell_member: which provider spells make up a continuous inpatient spell.
--
-- Sources: provider_spell, spell_continuation. Columns: continuous_inpatient_spell_id (the spell_id of its first
-- provider spell), spell_id, spell_number (1 is the first). Regular attenders are in none.
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
    select
        coalesce(walked.continuous_inpatient_spell_id, provider_spell.spell_id) as continuous_inpatient_spell_id,
        provider_spell.spell_id,
        coalesce(walked.steps, 0) as steps,
        provider_spell.admission_date
    from provider_spell
    left join walked on provider_spell.spell_id = walked.spell_id
    where not list_contains($regular_attender_classes, coalesce(provider_spell.patient_class, ''))
),
numbered as (
    select
        walked.continuous_inpatient_spell_id,
        walked.spell_id,
        row_number() over (
            partition by walked.continuous_inpatient_spell_id
            order by walked.admission_date, walked.steps, walked.spell_id
        ) as place
    from member as walked
)
select
    continuous_inpatient_spell_id,
    spell_id,
    place::integer as spell_number
from numbered
