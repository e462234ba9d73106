-- Table core_count: how many records the rules of sql/core passed over, and why. Counts only.
--
-- Columns: step, reason, records.
with ambiguous_token as (
    select old_person_token
    from hes_person_bridge
    group by old_person_token
    having count(distinct person_token) > 1
),
tally as (
    select 'episode' as step, left_out as reason, count(*) as records
    from episode_record
    where left_out is not null
    group by left_out
    union all
    select 'episode' as step, reason, count(*) as records
    from episode_repeat
    group by reason
    union all
    select 'episode' as step, 'used' as reason, count(*) as records
    from episode
    union all
    select 'person' as step, 'old token with more than one new token' as reason, count(*) as records
    from ambiguous_token
    union all
    select 'spell' as step, 'no admission date: the start of its first episode stands in' as reason, count(*) as records
    from provider_spell
    where not admission_date_recorded
    union all
    select 'spell' as step, 'not finished' as reason, count(*) as records
    from provider_spell
    where not finished
)
select step, reason, records
from tally
order by step, reason
