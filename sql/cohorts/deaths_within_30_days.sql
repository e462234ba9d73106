-- title: Deaths in hospital or within 30 days of discharge, of patients with a diagnosis, at one provider in a period
-- needs: deaths
-- parameter: provider organisation
-- parameter: from_date date
-- parameter: to_date date
-- parameter: diagnosis diagnosis_category
--
-- One record per spell: the episode that ended it, for the spell that the death is counted for.
-- Diagnosis: the primary diagnosis of the spell's first episode. Period: the day of discharge.
select
    last_episode.episode_id as record_key,
    provider_spell.person_token,
    provider_spell.discharge_date as record_date
from provider_spell
inner join spell_outcome on provider_spell.spell_id = spell_outcome.spell_id
inner join episode as last_episode on provider_spell.last_record = last_episode.record
where
    provider_spell.finished
    and provider_spell.provider = $provider
    and provider_spell.discharge_date between $from_date and $to_date
    and starts_with(provider_spell.primary_diagnosis, $diagnosis)
    and spell_outcome.died_within_30_days
    and spell_outcome.death_order = 1
