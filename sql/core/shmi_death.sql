-- Table shmi_death: the spells that a death is counted for; dropped after the build.
--
-- Sources: spell_outcome, provider_spell, mortality_provider. Columns: spell_id, died_in_hospital.
-- A death belongs to the last of the person's spells at a covered provider that ended in it or at most 30 days before
-- it. Day cases, regular attenders and stillbirths take no part; spells that no model covers do, so that a death is
-- never handed back to an earlier spell because the last one had COVID-19 or no valid diagnosis.
with candidate as (
    select
        provider_spell.spell_id,
        spell_outcome.died_in_hospital,
        row_number() over (partition by provider_spell.person_token order by spell_outcome.death_order) as place
    from provider_spell
    inner join spell_outcome on provider_spell.spell_id = spell_outcome.spell_id
    inner join mortality_provider on provider_spell.provider = mortality_provider.code
    where
        spell_outcome.died_within_30_days
        and not list_contains($excluded_patient_classes, coalesce(provider_spell.patient_class, ''))
)
select spell_id, died_in_hospital
from candidate
where place = 1
