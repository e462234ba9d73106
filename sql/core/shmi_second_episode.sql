-- Table shmi_second_episode: spells whose diagnosis is that of the second episode; dropped after the build.
--
-- Sources: shmi_stay, spell_episode, episode_record. Columns: spell_record, record (of the second episode), diagnosis,
-- secondary_count.
-- The second episode speaks where the first has a symptom code or none, and it has a diagnosis that is no symptom.
select
    spell_episode.spell_record,
    spell_episode.record,
    episode_record.primary_diagnosis as diagnosis,
    episode_record.secondary_count
from spell_episode
inner join episode_record on spell_episode.record = episode_record.rowid
where
    spell_episode.episode_number = 2
    and spell_episode.spell_record in (select spell_record from shmi_stay where asks_second_episode)
    and episode_record.primary_diagnosis is not null
    and not starts_with(episode_record.primary_diagnosis, $symptom_chapter)
