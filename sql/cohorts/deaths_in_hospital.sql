-- title: Stays that ended in death in hospital, at one provider in a period
-- needs: spells
-- parameter: provider organisation
-- parameter: from_date date
-- parameter: to_date date
--
-- One record per spell: the episode that ended it. Method of discharge 4 (died); stillbirths (5) are not in it.
-- Period: the day of discharge.
select
    last_episode.episode_id as record_key,
    provider_spell.person_token,
    provider_spell.discharge_date as record_date
from provider_spell
inner join episode as last_episode on provider_spell.last_record = last_episode.record
where
    provider_spell.died_in_hospital
    and provider_spell.provider = $provider
    and provider_spell.discharge_date between $from_date and $to_date
