-- View continuous_inpatient_spell_member: which provider spells make up a continuous inpatient spell.
--
-- Sources: provider_spell, continuous_inpatient_spell_chain. Columns: continuous_inpatient_spell_id (the spell_id of its
-- first provider spell), spell_id, spell_number (1 is the first). Regular attenders are in none.
select
    coalesce(chain.continuous_inpatient_spell_id, provider_spell.spell_id) as continuous_inpatient_spell_id,
    provider_spell.spell_id,
    coalesce(chain.spell_number, 1)::integer as spell_number
from provider_spell
left join continuous_inpatient_spell_chain as chain on provider_spell.spell_id = chain.spell_id
where not provider_spell.regular_attender
