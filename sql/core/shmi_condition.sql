-- Table shmi_condition: the Charlson conditions that the secondary diagnoses of a record speak of; dropped after the
-- build.
--
-- Sources: shmi_stay, shmi_second_episode, episode_record, mortality_code. Columns: record, conditions (one bit per
-- condition). Records without any condition are not in it.
with listed as (
    select rowid as record, unnest(secondary_codes) as code
    from episode_record
    where
        secondary_codes is not null
        and (
            rowid in (select spell_record from shmi_stay)
            or rowid in (select record from shmi_second_episode)
        )
)
select listed.record, bit_or(mortality_code.conditions) as conditions
from listed
inner join mortality_code on listed.code = mortality_code.code
where mortality_code.conditions <> 0
group by listed.record
