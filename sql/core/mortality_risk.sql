-- View mortality_risk: each spell that a mortality model covers, with its risk of death.
--
-- Sources: shmi_spell, mortality_pattern, provider_spell. One row per provider spell of the model's three years; the
-- order of a cumulative sum is discharge_date, spell_id. in_report: discharged in the months reported.
select
    provider_spell.spell_id,
    shmi_spell.provider,
    shmi_spell.site,
    mortality_pattern.diagnosis_group,
    shmi_spell.discharge_date,
    mortality_pattern.risk,
    shmi_spell.died,
    shmi_spell.in_report
from shmi_spell
inner join mortality_pattern on shmi_spell.pattern = mortality_pattern.pattern
inner join provider_spell on shmi_spell.spell_record = provider_spell.spell_record
