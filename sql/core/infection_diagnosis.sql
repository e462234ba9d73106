-- Table infection_diagnosis: the codes of infections in the episodes, one row per episode and code.
--
-- Sources: episode_diagnosis, spell_episode. Columns: spell_record, record, episode_number (1 is the first of the spell),
-- is_primary, code. Few rows: the infection indicators start from it instead of reading every diagnosis again. A test
-- holds that every code they ask for is kept.
select
    spell_episode.spell_record,
    spell_episode.record,
    spell_episode.episode_number,
    infection.is_primary,
    infection.code
from episode_diagnosis as infection
inner join spell_episode on infection.record = spell_episode.record
where
    left(infection.code, 3)
    in (
        'A04', 'A32', 'A40', 'A41', 'A49', 'O75', 'O85', 'O86', 'O90', 'O91', 'T81', 'T84', 'U80', 'U82'
    )
