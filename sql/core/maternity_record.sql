-- Table maternity_record: the maternity part of the records of mothers and of babies, one row per episode that has
-- one; dropped after the build.
--
-- Sources: hes_apc, episode. Columns: record; role ('mother' or 'baby', by EPITYPE, and where that says general by
-- MATERNITY_EPISODE_TYPE); delivery_method (DELMETH_1); number_of_babies (NUMBABY; empty where not known); mother_age;
-- age_in_days (NEODUR); birth_statuses, gestations (one place per baby, up to the last that says anything; a baby's
-- record has only its own, in the first); birth_order (of the first); tails (how many places there are);
-- mother_baby_token (the same on both records of one birth). See infra/decisions/0150-delivery.md.
with told as (
    select
        epikey,
        partyear::varchar as partyear,
        case
            when epitype in ('3', '6') then 'baby'
            when epitype in ('2', '5') then 'mother'
            when maternity_episode_type in ('2', '4') then 'baby'
            else 'mother'
        end as role,
        delmeth_1 as delivery_method,
        case when numbaby in ('1', '2', '3', '4', '5', '6') then try_cast(numbaby as tinyint) end as number_of_babies,
        try_cast(matage as smallint) as mother_age,
        case when neodur between 0 and 27 then neodur::tinyint end as age_in_days,
        [birstat_1, birstat_2, birstat_3, birstat_4, birstat_5, birstat_6, birstat_7, birstat_8, birstat_9]
            as birth_statuses,
        [birordr_1, birordr_2, birordr_3, birordr_4, birordr_5, birordr_6, birordr_7, birordr_8, birordr_9]
            as birth_orders,
        [gestat_1, gestat_2, gestat_3, gestat_4, gestat_5, gestat_6, gestat_7, gestat_8, gestat_9] as gestations,
        [delmeth_1, delmeth_2, delmeth_3, delmeth_4, delmeth_5, delmeth_6, delmeth_7, delmeth_8, delmeth_9]
            as delivery_methods,
        mother_baby_token_of_mother,
        mother_baby_token_of_baby
    from hes_apc
    where epitype in ('2', '3', '5', '6') or maternity_episode_type in ('1', '2', '3', '4')
),
measured as (
    select
        *,
        list_max([
            case
                when
                    birth_statuses[place] is not null
                    or birth_orders[place] is not null
                    or gestations[place] is not null
                    or delivery_methods[place] is not null
                    then place
                else 0
            end
            for place in range(1, 10)
        ])::tinyint as tails
    from told
)
-- A row that was delivered several times (once per critical care period) says the same each time.
select
    episode.record,
    max(told.role) as role,
    max(told.delivery_method) as delivery_method,
    max(told.number_of_babies) as number_of_babies,
    max(told.mother_age) as mother_age,
    max(told.age_in_days) as age_in_days,
    -- Short lists of small numbers: as text the nine places of every record would take more room than the deliveries.
    max([try_cast(status as tinyint) for status in told.birth_statuses[1:tails]]) as birth_statuses,
    max([try_cast(weeks as tinyint) for weeks in told.gestations[1:tails]]) as gestations,
    max(try_cast(told.birth_orders[1] as tinyint)) as birth_order,
    max(told.tails) as tails,
    max(case when told.role = 'mother' then told.mother_baby_token_of_mother else told.mother_baby_token_of_baby end)
        as mother_baby_token
from measured as told
inner join episode on told.epikey = episode.episode_id and told.partyear is not distinct from episode.partyear
group by episode.record
