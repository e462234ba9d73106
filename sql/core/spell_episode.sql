-- Table spell_episode: to which provider spell each episode belongs.
--
-- Sources: episode, visit_episode, visit_continuation. Columns: spell_record (record of the spell's first episode; also
-- in provider_spell), record (of the episode), episode_number (1 is the first of the spell).
-- A provider spell is a continuous stay of one person within one provider: a visit and the visits that go on from it.
with member as (
    select
        visit_episode.record,
        coalesce(visit_continuation.root, visit_episode.visit) as spell_record
    from visit_episode
    left join visit_continuation on visit_episode.visit = visit_continuation.visit
),
several as (
    select spell_record
    from member
    group by spell_record
    having count(*) > 1
)
select
    spell_record,
    record,
    1::smallint as episode_number
from member
where spell_record not in (select spell_record from several)
union all
select
    member.spell_record,
    member.record,
    (row_number() over (
        partition by member.spell_record
        order by
            episode.episode_start, episode.reach, episode.episode_order nulls last, episode.transit, episode.episode_id
    ))::smallint as episode_number
from member
inner join several on member.spell_record = several.spell_record
inner join episode on member.record = episode.record
