-- Table episode_repeat: usable rows of episode_record that say again what another row says.
--
-- One row per row to be passed over: its rowid in episode_record as record, and the reason.
-- Rules and their sources: infra/decisions/0101-spell-episode.md.
-- 64-bit hashes only narrow the search; what counts as the same is compared in full afterwards.
with repeated_key as (
    select hash(episode_id) as likeness
    from episode_record
    where left_out is null
    group by hash(episode_id)
    having count(*) > 1
),
key_place as (
    -- Older extracts repeat an episode once per critical care period; a later delivery may bring it finished.
    -- The rest of the ordering is content, so that the same row stays however the input is cut or ordered.
    select
        rowid as record,
        row_number() over (
            partition by episode_id
            order by
                finished_episode desc, partyear desc nulls last, discharged desc, episode_start,
                episode_end desc nulls last, person, provider, admission_date nulls last, discharge_date nulls last, discharge_method nulls last,
                episode_order nulls last, patient_class nulls last, admission_method nulls last,
                admission_source nulls last, discharge_destination nulls last, site nulls last, episode_type nulls last,
                primary_diagnosis nulls last, primary_diagnosis_state, sex nulls last, start_age nulls last, rowid
        ) as place
    from episode_record
    where
        left_out is null
        and hash(episode_id) in (select likeness from repeated_key)
),
second_key as (
    select record
    from key_place
    where place > 1
),
shared_content as (
    select hash(person, provider, episode_start, episode_end, episode_order) as likeness
    from episode_record
    where
        left_out is null
        and rowid not in (select record from second_key)
    group by likeness
    having count(*) > 1
),
content_place as (
    select
        rowid as record,
        row_number() over (
            partition by
                person, provider, episode_start, episode_end, episode_order, admission_date, discharge_date,
                patient_class, episode_type, transit
            order by (primary_diagnosis_state = 'valid') desc, partyear desc nulls last, episode_id
        ) as place
    from episode_record
    where
        left_out is null
        and rowid not in (select record from second_key)
        and hash(person, provider, episode_start, episode_end, episode_order)
        in (select likeness from shared_content)
),
second_content as (
    select record
    from content_place
    where place > 1
),
superseded as (
    -- Until 2016-17 an episode open on 31 March was delivered unfinished, and again the year after.
    select distinct unfinished.rowid as record
    from episode_record as unfinished
    inner join episode_record as later
        on
            unfinished.person = later.person
            and unfinished.provider = later.provider
            and unfinished.episode_start = later.episode_start
    where
        unfinished.left_out is null
        and later.left_out is null
        and unfinished.rowid not in (select record from second_key union all select record from second_content)
        and later.rowid not in (select record from second_key union all select record from second_content)
        and not unfinished.finished_episode
        and (
            unfinished.episode_order = later.episode_order
            or unfinished.episode_order is null
            or later.episode_order is null
        )
        and (
            later.finished_episode
            or (coalesce(later.partyear, ''), later.episode_id)
            > (coalesce(unfinished.partyear, ''), unfinished.episode_id)
        )
)
select record, 'record key delivered more than once' as reason
from second_key
union all
select record, 'same stay, dates, place in the spell and kind as another episode' as reason
from second_content
union all
select record, 'unfinished at the end of a year and delivered again' as reason
from superseded
