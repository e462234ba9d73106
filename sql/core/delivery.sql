-- Table delivery: one row per delivery, that is per continuous stay in which a woman gave birth.
--
-- Sources: episode, episode_procedure, episode_diagnosis, maternity_record, spell_episode, provider_spell,
-- continuous_inpatient_spell_member, covered_year. Not to be confused with a delivery of data.
-- delivery_record is the record of the delivery episode; like record it means nothing outside this build.
-- A stay is one with a delivery if an episode that is no baby's has a procedure R17 to R25, or is the mother's
-- maternity record and has a DELMETH_1, or has both Z37 and O80 to O84. Rules and sources:
-- infra/decisions/0150-delivery.md.
with delivery_procedure as (
    select record, code, procedure_date
    from episode_procedure
    where left(code, 3) between 'R17' and 'R25'
),
delivery_diagnosis as materialized (
    select record, code
    from episode_diagnosis
    where left(code, 3) in ('O30', 'O80', 'O81', 'O82', 'O83', 'O84', 'Z37')
),
sign as (
    select record, true as by_procedure, false as by_tail, false as by_diagnosis
    from delivery_procedure
    union all
    select record, false, true, false
    from maternity_record
    where role = 'mother' and delivery_method is not null
    union all
    select record, false, false, true
    from delivery_diagnosis
    group by record
    having bool_or(starts_with(code, 'Z37')) and bool_or(starts_with(code, 'O8'))
),
evidence as (
    select
        record,
        bool_or(by_procedure) as by_procedure,
        bool_or(by_tail) as by_tail,
        bool_or(by_diagnosis) as by_diagnosis
    from sign
    where record not in (select record from maternity_record where role = 'baby')
    group by record
),
placed as (
    select
        evidence.*,
        episode.episode_id,
        episode.episode_start,
        episode.reach,
        episode.start_age,
        episode.site,
        spell_episode.spell_record,
        provider_spell.spell_id,
        provider_spell.person_token,
        provider_spell.provider,
        provider_spell.admission_date,
        provider_spell.discharge_date,
        coalesce(member.continuous_inpatient_spell_id, provider_spell.spell_id) as stay_id
    from evidence
    inner join episode on evidence.record = episode.record
    inner join spell_episode on evidence.record = spell_episode.record
    inner join provider_spell on spell_episode.spell_record = provider_spell.spell_record
    left join continuous_inpatient_spell_member as member on provider_spell.spell_id = member.spell_id
    where
        coalesce(episode.sex, '') <> $male_sex
        and coalesce(episode.start_age between $youngest_mother_age and $oldest_mother_age, true)
),
-- A date outside the stay at this provider is a copy of another stay's, or an error.
believed_date as (
    select placed.record, min(delivery_procedure.procedure_date) as procedure_date
    from placed
    inner join delivery_procedure on placed.record = delivery_procedure.record
    where
        delivery_procedure.procedure_date >= placed.admission_date
        and delivery_procedure.procedure_date <= coalesce(placed.discharge_date, delivery_procedure.procedure_date)
    group by placed.record
),
candidate as (
    select
        placed.*,
        coalesce(believed_date.procedure_date, placed.episode_start) as delivery_date,
        believed_date.procedure_date is not null as dated_by_procedure,
        row_number() over (
            partition by placed.stay_id
            order by
                case
                    when believed_date.procedure_date is not null then 1
                    when placed.by_tail then 2
                    when placed.by_procedure then 3
                    else 4
                end,
                believed_date.procedure_date,
                -- Of two episodes that both name the procedure the one in which it was.
                (believed_date.procedure_date between placed.episode_start and placed.reach) desc nulls last,
                placed.episode_start,
                placed.reach,
                placed.episode_id
        ) as place
    from placed
    left join believed_date on placed.record = believed_date.record
),
in_order as (
    select
        * exclude (place),
        lag(delivery_date) over (partition by person_token order by delivery_date, episode_id) as previous_date
    from candidate
    where place = 1
),
chosen as (
    -- A later stay that says delivery again, before there can have been another, repeats the first one's codes.
    select * exclude (previous_date)
    from in_order
    where previous_date is null or delivery_date - previous_date >= $fewest_days_between_deliveries
),
-- What all episodes of the stay at the delivering provider say about mode and number.
spell_record_of as (
    select chosen.record as delivery_record, spell_episode.record, spell_episode.episode_number
    from chosen
    inner join spell_episode on chosen.spell_record = spell_episode.spell_record
),
tail as (
    select
        spell_record_of.delivery_record,
        min_by(
            maternity_record.delivery_method,
            -- The delivery episode's own comes before those of the others.
            case when spell_record_of.record = spell_record_of.delivery_record then 0
                else spell_record_of.episode_number::integer end
        ) filter (where maternity_record.delivery_method between '0' and '9') as delivery_method,
        min_by(
            maternity_record.record,
            case when spell_record_of.record = spell_record_of.delivery_record then 0
                else spell_record_of.episode_number::integer end
        ) as tail_record,
        min_by(
            maternity_record.mother_baby_token,
            case when spell_record_of.record = spell_record_of.delivery_record then 0
                else spell_record_of.episode_number::integer end
        ) filter (where maternity_record.mother_baby_token is not null) as mother_baby_token,
        max(maternity_record.number_of_babies) as number_of_babies,
        max(maternity_record.tails) as tails,
        max(maternity_record.mother_age) as mother_age
    from spell_record_of
    inner join maternity_record on spell_record_of.record = maternity_record.record
    where maternity_record.role = 'mother'
    group by spell_record_of.delivery_record
),
-- Of several modes the one that changes the stay most: a caesarean after a failed forceps is a caesarean.
procedure_mode as (
    select
        spell_record_of.delivery_record,
        min(case left(delivery_procedure.code, 3)
            when 'R18' then 1
            when 'R17' then 2
            when 'R21' then 3
            when 'R22' then 3
            when 'R19' then 4
            when 'R20' then 4
            when 'R23' then 5
            when 'R24' then 5
            else 6
        end) as mode_number
    from spell_record_of
    inner join delivery_procedure on spell_record_of.record = delivery_procedure.record
    group by spell_record_of.delivery_record
),
diagnosis_told as (
    select
        spell_record_of.delivery_record,
        min(case
            when starts_with(delivery_diagnosis.code, 'O821') then 1
            when starts_with(delivery_diagnosis.code, 'O820') then 2
            when starts_with(delivery_diagnosis.code, 'O81') then 3
            when left(delivery_diagnosis.code, 4) in ('O801', 'O830', 'O831') then 4
            when starts_with(delivery_diagnosis.code, 'O80') then 5
            when starts_with(delivery_diagnosis.code, 'O8') then 6
        end) as mode_number,
        max(left(delivery_diagnosis.code, 4)) filter (
            where left(delivery_diagnosis.code, 4) between 'Z370' and 'Z377'
        ) as outcome_code,
        bool_or(starts_with(delivery_diagnosis.code, 'O30')) as says_multiple
    from spell_record_of
    inner join delivery_diagnosis on spell_record_of.record = delivery_diagnosis.record
    group by spell_record_of.delivery_record
),
described as (
    select
        chosen.*,
        tail.tail_record,
        tail.mother_baby_token,
        diagnosis_told.outcome_code,
        coalesce(
            case
                when tail.delivery_method = '8' then 1
                when tail.delivery_method = '7' then 2
                when tail.delivery_method in ('2', '3', '4') then 3
                when tail.delivery_method in ('5', '6') then 4
                when tail.delivery_method in ('0', '1') then 5
                when tail.delivery_method = '9' then 6
            end,
            procedure_mode.mode_number,
            diagnosis_told.mode_number
        ) as mode_number,
        coalesce(chosen.start_age, tail.mother_age) as mother_age,
        greatest(
            1,
            tail.number_of_babies,
            tail.tails,
            case
                when diagnosis_told.outcome_code in ('Z372', 'Z373', 'Z374') then 2
                when diagnosis_told.outcome_code in ('Z375', 'Z376', 'Z377') then 3
            end,
            case when diagnosis_told.says_multiple then 2 end
        ) as babies
    from chosen
    left join tail on chosen.record = tail.delivery_record
    left join procedure_mode on chosen.record = procedure_mode.delivery_record
    left join diagnosis_told on chosen.record = diagnosis_told.delivery_record
)
select
    described.record as delivery_record,
    described.person_token,
    described.provider,
    described.site,
    described.spell_id,
    described.stay_id as continuous_inpatient_spell_id,
    described.delivery_date,
    described.dated_by_procedure,
    case
        when described.by_procedure then 'procedure'
        when described.by_tail then 'maternity record'
        else 'diagnosis'
    end as identified_by,
    case described.mode_number
        when 1 then 'emergency caesarean'
        when 2 then 'elective caesarean'
        when 3 then 'instrumental'
        when 4 then 'breech'
        when 5 then 'spontaneous'
        when 6 then 'other'
        else 'unknown'
    end as mode,
    described.babies::tinyint as babies,
    described.babies > 1 as multiple,
    described.outcome_code,
    described.tail_record,
    described.mother_baby_token,
    case
        when described.mother_age < 20 then 'under 20'
        when described.mother_age < 25 then '20 to 24'
        when described.mother_age < 30 then '25 to 29'
        when described.mother_age < 35 then '30 to 34'
        when described.mother_age < 40 then '35 to 39'
        when described.mother_age >= 40 then '40 and over'
        else 'unknown'
    end as age_band,
    described.discharge_date,
    year(described.delivery_date - interval 3 month)::varchar || '-'
    || lpad(((year(described.delivery_date - interval 3 month) + 1) % 100)::varchar, 2, '0') as financial_year,
    -- Empty where the data do not cover the day of the delivery: only stays that ended later show it.
    covered_year.followed_until
from described
left join covered_year on described.delivery_date between covered_year.first_day and covered_year.last_day
