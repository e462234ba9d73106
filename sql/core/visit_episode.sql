-- Table visit_episode: the first step towards a provider spell; dropped after the build.
--
-- Source: episode. Columns: record, visit (the record of the visit's first episode). A visit is the episodes of one
-- person, provider and admission date, cut where a discharge is followed by a new first episode: discharged and
-- admitted again the same day is two visits. An episode without an admission date is a visit of its own, for now.
-- Rules, sources and consequences: infra/decisions/0102-spell-provider-spell.md.
with shared_admission as (
    -- The hash narrows the search; the windows below compare in full.
    select hash(person, provider, admission_date) as likeness
    from episode
    where admission_date is not null
    group by likeness
    having count(*) > 1
),
neighbour as (
    select
        record, person, provider, admission_date, episode_start, episode_order,
        lag(discharge_date) over reading as previous_discharge_date,
        row_number() over reading as place
    from episode
    where
        admission_date is not null
        and hash(person, provider, admission_date) in (select likeness from shared_admission)
    window reading as (
        partition by person, provider, admission_date
        order by episode_start, reach, episode_order nulls last, transit, episode_id
    )
)
select
    record,
    record as visit
from episode
where
    admission_date is null
    or hash(person, provider, admission_date) not in (select likeness from shared_admission)
union all
select
    record,
    last_value(
        case
            when
                place = 1
                or (episode_order = 1 and coalesce(previous_discharge_date <= episode_start, false))
                then record
        end
        ignore nulls
    ) over (
        partition by person, provider, admission_date
        order by place
        rows between unbounded preceding and current row
    ) as visit
from neighbour
