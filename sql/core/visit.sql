-- Table visit: one row per visit; dropped after the build.
--
-- Sources: episode, visit_episode. closed: its last episode says that the patient was discharged. has_beginning: its
-- first episode is the first of a stay and starts on the day of admission.
with several as (
    select visit
    from visit_episode
    group by visit
    having count(*) > 1
),
span as (
    select
        visit_episode.visit,
        max(episode.reach) as visit_end,
        -- The last episode is the one that ends last, and of those with the same end one that says discharged.
        coalesce(max(episode.reach) filter (where episode.discharged) = max(episode.reach), false) as closed
    from visit_episode
    inner join several on visit_episode.visit = several.visit
    inner join episode on visit_episode.record = episode.record
    group by visit_episode.visit
)
select
    visit_episode.visit,
    episode.reach as first_reach,
    episode.episode_order as first_order,
    episode.transit as first_transit,
    episode.episode_id as first_episode_id,
    episode.person,
    episode.provider,
    episode.admission_date,
    episode.episode_start as visit_start,
    coalesce(span.visit_end, episode.reach) as visit_end,
    coalesce(span.closed, episode.discharged) as closed,
    case
        when episode.admission_date is null then coalesce(episode.episode_order = 1, false)
        else episode.admission_date = episode.episode_start and coalesce(episode.episode_order, 1) = 1
    end as has_beginning
from visit_episode
inner join episode on visit_episode.record = episode.record
left join span on visit_episode.visit = span.visit
where visit_episode.record = visit_episode.visit
