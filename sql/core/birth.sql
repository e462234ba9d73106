-- Table birth: one row per baby that the mother's record or a record of the baby's own tells of.
--
-- Sources: delivery, maternity_record, spell_episode, provider_spell, episode, covered_year. Columns: delivery_record
-- and birth_number (the mother's delivery and the baby's place in it; birth_number is empty for a baby whose record
-- could not be matched to a place: it may be told of by a mother already, so only rows with a number are counted as
-- births); person_token and spell_id (the baby's own, empty where it has no record); provider; birth_date; stillborn;
-- gestation_weeks; financial_year; followed_until. Rules: infra/decisions/0150-delivery.md.
with of_mother as (
    select
        delivery.*,
        number.birth_number,
        maternity_record.birth_statuses[number.birth_number] as birth_status,
        maternity_record.gestations[number.birth_number] as gestation_weeks,
        coalesce(list_has_any(maternity_record.birth_statuses, [1, 2, 3, 4]::tinyint[]), false) as any_status
    from delivery
    cross join (select unnest(range(1, 10)) as birth_number) as number
    left join maternity_record on delivery.tail_record = maternity_record.record
    where number.birth_number <= delivery.babies
),
baby_record as (
    select
        maternity_record.record,
        provider_spell.person_token,
        provider_spell.spell_id,
        provider_spell.provider,
        episode.episode_start - coalesce(maternity_record.age_in_days, 0) as birth_date,
        maternity_record.mother_baby_token,
        case when maternity_record.birth_order between 1 and 7 then maternity_record.birth_order end as birth_order,
        case
            when
                maternity_record.birth_statuses[1] in (2, 3, 4)
                or provider_spell.discharge_method = $stillbirth_discharge_method
                then true
            when maternity_record.birth_statuses[1] = 1 then false
        end as stillborn,
        maternity_record.gestations[1] as gestation_weeks,
        row_number() over (
            partition by provider_spell.person_token
            order by episode.episode_start, episode.reach, episode.episode_id
        ) as place
    from maternity_record
    inner join episode on maternity_record.record = episode.record
    inner join spell_episode on maternity_record.record = spell_episode.record
    inner join provider_spell on spell_episode.spell_record = provider_spell.spell_record
    where maternity_record.role = 'baby'
),
-- A token that two deliveries have, or that stands for none, joins nothing.
token_of_one as (
    select mother_baby_token, min(delivery_record) as delivery_record
    from delivery
    where mother_baby_token is not null
    group by mother_baby_token
    having count(*) = 1
),
of_baby as (
    select
        baby_record.* exclude (place),
        delivery.delivery_record,
        -- A single baby is the first whatever its record says.
        case when delivery.babies = 1 then 1 else baby_record.birth_order end as wanted_number,
        delivery.babies
    from baby_record
    left join token_of_one on baby_record.mother_baby_token = token_of_one.mother_baby_token
    left join delivery on token_of_one.delivery_record = delivery.delivery_record
    where baby_record.place = 1
),
numbered as (
    select
        *,
        case
            when
                wanted_number <= babies
                and row_number() over (partition by delivery_record, wanted_number order by birth_date, spell_id) = 1
                then wanted_number
        end as birth_number
    from of_baby
),
told as (
    select
        of_mother.delivery_record,
        of_mother.birth_number::tinyint as birth_number,
        numbered.person_token,
        numbered.spell_id,
        of_mother.provider,
        case
            when of_mother.dated_by_procedure then of_mother.delivery_date
            else coalesce(numbered.birth_date, of_mother.delivery_date)
        end as birth_date,
        coalesce(
            case
                when of_mother.birth_status in (2, 3, 4) then true
                when of_mother.birth_status = 1 then false
            end,
            numbered.stillborn,
            case
                when of_mother.outcome_code in ('Z371', 'Z374', 'Z377') then true
                -- Some live and some not, and no place says which: the last stands for it.
                when of_mother.outcome_code in ('Z373', 'Z376') and not of_mother.any_status
                    then of_mother.birth_number = of_mother.babies
            end,
            false
        ) as stillborn,
        coalesce(of_mother.gestation_weeks, numbered.gestation_weeks)::smallint as gestation_weeks
    from of_mother
    left join numbered
        on of_mother.delivery_record = numbered.delivery_record and of_mother.birth_number = numbered.birth_number
    union all
    select
        delivery_record,
        null as birth_number,
        person_token,
        spell_id,
        provider,
        birth_date,
        coalesce(stillborn, false) as stillborn,
        gestation_weeks::smallint as gestation_weeks
    from numbered
    where birth_number is null
)
select
    told.*,
    year(told.birth_date - interval 3 month)::varchar || '-'
    || lpad(((year(told.birth_date - interval 3 month) + 1) % 100)::varchar, 2, '0') as financial_year,
    covered_year.followed_until
from told
left join covered_year on told.birth_date between covered_year.first_day and covered_year.last_day
