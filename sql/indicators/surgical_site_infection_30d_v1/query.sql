-- Surgical site infection within 30 days of an operation, observed over expected, by operating provider and year.
--
-- Numerator: operations after which an infection is coded, later in the operation's spell, as a secondary diagnosis of
--   the operation's own episode, or in another stay at any provider that begins within $follow_up_days days; one
--   infection belongs to the latest operation before it, and an operation has at most one.
-- Denominator: operations of the categories below, one per spell and category (the first). Expected: the operations
--   times the rate of their category over all providers in the year.
-- Exclusions: operations in an episode, or after an episode of the spell, that already is about such an infection;
--   unfinished spells; operations whose follow-up reaches beyond the days that were delivered.
-- Source: see metadata.yaml and infra/decisions/0151-infections-from-codes.md.
with operation_code as (
    select 'abdominal hysterectomy' as category, unnest($abdominal_hysterectomy_codes) as code
    union all
    select 'caesarean section' as category, unnest($caesarean_codes) as code
    union all
    select 'coronary artery bypass' as category, unnest($coronary_bypass_codes) as code
    union all
    select 'hip hemiarthroplasty' as category, unnest($hip_hemiarthroplasty_codes) as code
    union all
    select 'hip replacement' as category, unnest($hip_replacement_codes) as code
    union all
    select 'knee replacement' as category, unnest($knee_replacement_codes) as code
    union all
    select 'large bowel surgery' as category, unnest($large_bowel_codes) as code
),
infection_code as (
    select distinct category, unnest($infection_codes) as code
    from operation_code
    union
    select distinct category, unnest($prosthesis_infection_codes) as code
    from operation_code
    where category in ('hip hemiarthroplasty', 'hip replacement', 'knee replacement')
    union
    select 'caesarean section' as category, unnest($obstetric_wound_infection_codes) as code
),
dated_operation as (
    select
        operation_code.category,
        provider_spell.spell_record,
        provider_spell.spell_id,
        provider_spell.provider,
        provider_spell.discharge_date,
        episode.person,
        spell_episode.record,
        spell_episode.episode_number,
        -- A date outside the stay is not believed.
        case
            when episode_procedure.procedure_date between provider_spell.admission_date and episode.reach
                then episode_procedure.procedure_date
            else episode.episode_start
        end as operation_date
    from episode_procedure
    inner join operation_code on left(episode_procedure.code, 3) = operation_code.code
    inner join spell_episode on episode_procedure.record = spell_episode.record
    inner join episode on spell_episode.record = episode.record
    inner join provider_spell on spell_episode.spell_record = provider_spell.spell_record
    where provider_spell.finished
),
first_operation as (
    select *
    from dated_operation
    qualify row_number() over (
        partition by spell_record, category
        order by operation_date, episode_number
    ) = 1
),
infection as (
    select
        infection_diagnosis.spell_record,
        infection_diagnosis.record,
        infection_diagnosis.episode_number,
        infection_diagnosis.is_primary,
        left(infection_diagnosis.code, 4) as code,
        episode.person,
        episode.episode_start,
        provider_spell.admission_date
    from infection_diagnosis
    inner join episode on infection_diagnosis.record = episode.record
    inner join provider_spell on infection_diagnosis.spell_record = provider_spell.spell_record
    where left(infection_diagnosis.code, 4) in (select code from infection_code)
),
about_infection as (
    select distinct operation.spell_record, operation.category
    from first_operation as operation
    inner join infection_code on operation.category = infection_code.category
    inner join infection
        on operation.spell_record = infection.spell_record and infection_code.code = infection.code
    where
        infection.episode_number < operation.episode_number
        or (infection.episode_number = operation.episode_number and infection.is_primary)
),
operation as (
    select first_operation.*
    from first_operation
    inner join covered_year
        on first_operation.operation_date between covered_year.first_day and covered_year.last_day
    anti join about_infection
        on
            first_operation.spell_record = about_infection.spell_record
            and first_operation.category = about_infection.category
    where first_operation.operation_date + $follow_up_days <= covered_year.followed_until
),
attributed as (
    select operation.spell_record, operation.category
    from operation
    inner join infection_code on operation.category = infection_code.category
    inner join infection on operation.person = infection.person and infection_code.code = infection.code
    where
        -- Its own episode: there the infection is a secondary diagnosis, or the operation would have been left out.
        (
            operation.spell_record = infection.spell_record
            and operation.episode_number = infection.episode_number
        )
        or (
            infection.episode_start - operation.operation_date between 0 and $follow_up_days
            and (
                (
                    operation.spell_record = infection.spell_record
                    and operation.episode_number < infection.episode_number
                )
                or (
                    operation.spell_record <> infection.spell_record
                    and (
                        infection.admission_date > operation.operation_date
                        or infection.admission_date >= operation.discharge_date
                    )
                )
            )
        )
    qualify row_number() over (
        partition by infection.record
        order by
            operation.operation_date desc, operation.spell_record = infection.spell_record desc, operation.category,
            operation.spell_id
    ) = 1
),
infected_operation as (
    select distinct spell_record, category
    from attributed
),
by_category as (
    select
        year(operation.operation_date - interval 3 month)::varchar || '-'
        || lpad(((year(operation.operation_date - interval 3 month) + 1) % 100)::varchar, 2, '0') as period,
        operation.provider,
        operation.category,
        count(infected_operation.spell_record) as infections,
        count(*) as operations
    from operation
    left join infected_operation
        on
            operation.spell_record = infected_operation.spell_record
            and operation.category = infected_operation.category
    group by period, operation.provider, operation.category
),
compared as (
    select
        *,
        operations * (sum(infections) over everybody / sum(operations) over everybody) as expected
    from by_category
    window everybody as (partition by period, category)
),
cell as (
    select period, provider, 'category: ' || category as stratum, infections, operations, expected
    from compared
    union all
    select
        period,
        provider,
        'all' as stratum,
        sum(infections)::bigint as infections,
        sum(operations)::bigint as operations,
        sum(expected) as expected
    from compared
    group by period, provider
)
select
    period,
    provider,
    stratum,
    infections as numerator,
    operations as denominator,
    round(expected, 6) as expected
from cell
order by period, provider, stratum
