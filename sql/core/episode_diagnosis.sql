-- View episode_diagnosis: the diagnosis codes of each episode that some indicator asks for, one row per code.
--
-- Source: episode. Columns: record, is_primary, code (capitals, without dot, 4 to 6 characters or 3 with X; it may carry
-- a dagger or asterisk behind, so compare its beginning). The primary diagnosis is there whatever it is, of the
-- secondary ones only those that episode_record keeps.
select record, true as is_primary, primary_diagnosis as code
from episode
where primary_diagnosis is not null
union all
select record, false as is_primary, unnest(secondary_codes) as code
from episode
where secondary_codes is not null
