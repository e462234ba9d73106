-- Table shmi_code: every diagnosis code that occurs, once; dropped after the build.
--
-- Sources: shmi_stay, shmi_second_episode, episode_record. Columns: code, is_covid, is_palliative. What diagnosis group
-- and which Charlson conditions it has is looked up outside, once per code, and joined as mortality_code.
with occurring as (
    select distinct primary_diagnosis as code
    from shmi_stay
    union
    select distinct diagnosis as code
    from shmi_second_episode
    union
    select distinct primary_diagnosis as code
    from episode_record
    where primary_diagnosis is not null
    union
    select distinct unnest(secondary_codes) as code
    from episode_record
    where secondary_codes is not null
)
select
    code,
    exists (
        select 1
        from unnest($covid_codes) as listed (beginning)
        where starts_with(code, listed.beginning)
    ) as is_covid,
    exists (
        select 1
        from unnest($palliative_codes) as listed (beginning)
        where starts_with(code, listed.beginning)
    ) as is_palliative
from occurring
where code is not null
