-- Table visit_continuation: visits that are no stay of their own but go on from an earlier visit; dropped after the
-- build.
--
-- Source: visit. Columns: visit, root (the first visit of the spell it belongs to).
-- A visit goes on from the nearest earlier one at the provider that was left open, if it starts on the day that one
-- ends; or, if it has no beginning of its own, from the earlier one that reaches furthest, if it starts before that
-- ends. A complete visit inside a longer stay (a day case during a stay) goes on from nothing and cuts nothing.
with recursive unsettled as (
    -- The few persons and providers for whom anything can go on; the hash narrows the search.
    select hash(person, provider) as likeness
    from visit
    group by likeness
    having count(*) > 1 and not (bool_and(closed) and bool_and(has_beginning))
),
placed as (
    select
        *,
        -- In the order in which their first episodes are read, so that the first visit of a spell holds its first
        -- episode.
        row_number() over (
            partition by person, provider
            order by visit_start, first_reach, first_order nulls last, first_transit, first_episode_id
        ) as place
    from visit
    where hash(person, provider) in (select likeness from unsettled)
),
looked_back as (
    select
        *,
        last_value(case when not closed then visit end ignore nulls) over earlier as open_visit,
        last_value(case when not closed then visit_end end ignore nulls) over earlier as open_visit_end,
        -- The later one of equals. Not the previous row: a short visit inside a long one would hide the long one.
        max(struct_pack(visit_end := visit_end, place := place)) over earlier as furthest
    from placed
    window earlier as (
        partition by person, provider order by place
        rows between unbounded preceding and 1 preceding
    )
),
link as (
    select
        here.visit,
        case
            when here.visit_start = here.open_visit_end then here.open_visit
            when
                not here.has_beginning
                and here.visit_start <= long_visit.visit_end
                and coalesce(here.admission_date >= long_visit.admission_date, true)
                then long_visit.visit
        end as goes_on_from
    from looked_back as here
    inner join placed as long_visit
        on
            here.person = long_visit.person
            and here.provider = long_visit.provider
            and here.furthest.place = long_visit.place
),
walked as (
    select visit, goes_on_from as root
    from link
    where
        goes_on_from is not null
        and goes_on_from not in (select visit from link where goes_on_from is not null)
    union all
    select link.visit, walked.root
    from link
    inner join walked on link.goes_on_from = walked.visit
)
select visit, root
from walked
