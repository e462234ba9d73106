-- View episode: valid episodes, one row per EPIKEY and none twice under two keys.
--
-- Sources: episode_record, episode_repeat. record numbers the row within this build and means nothing outside it.
-- Unfinished episodes that no later delivery finished are in it (finished_episode is false): without them a patient
-- still in hospital would look discharged.
select
    episode_record.rowid as record,
    episode_record.* exclude (left_out),
    replace(episode_record.person::varchar, '-', '') as person_token,
    -- An unfinished episode has no end; it holds its first day only, or it would swallow all that follows.
    coalesce(episode_record.episode_end, episode_record.episode_start) as reach
from episode_record
where
    episode_record.left_out is null
    and episode_record.rowid not in (select episode_repeat.record from episode_repeat)
