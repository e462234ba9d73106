-- Table provider_spell: one row per continuous stay of a person within one provider.
--
-- Sources: episode, spell_episode. spell_id is the EPIKEY of the first episode, so it never repeats between providers.
-- Admission fields and diagnosis come from the first episode, discharge fields from the last: the one that ends last,
-- and of those with the same end one that says discharged.
-- secondary_count, deprivation_decile and birth_weight_grams are those of the first episode.
-- finished is false while no episode says that the stay ended; such a spell has no discharge date or method.
-- Rules, sources and consequences: infra/decisions/0102-spell-provider-spell.md.
with several as (
    select spell_record, max(episode_number) as episode_count
    from spell_episode
    group by spell_record
    having count(*) > 1
),
place as (
    select
        spell_episode.spell_record,
        spell_episode.record,
        several.episode_count,
        row_number() over (
            partition by spell_episode.spell_record
            order by
                episode.reach desc, episode.discharged desc, episode.episode_start desc,
                coalesce(episode.episode_order, 0) desc, episode.episode_id desc
        ) as place_from_end,
        min(episode.admission_date) over (partition by spell_episode.spell_record) as earliest_admission_date
    from spell_episode
    inner join several on spell_episode.spell_record = several.spell_record
    inner join episode on spell_episode.record = episode.record
),
last_episode as (
    select
        place.spell_record,
        place.episode_count,
        place.earliest_admission_date,
        place.record,
        episode.discharged,
        episode.discharge_date,
        episode.discharge_method,
        episode.discharge_destination
    from place
    inner join episode on place.record = episode.record
    where place.place_from_end = 1
),
stay as (
    select
        first_episode.*,
        -- Where the first episode has no admission date another one's will do, if it is not later than the first day.
        coalesce(
            first_episode.admission_date,
            case
                when last_episode.earliest_admission_date <= first_episode.episode_start
                    then last_episode.earliest_admission_date
            end
        ) as recorded_admission_date,
        last_episode.spell_record is not null as is_several,
        last_episode.discharged as last_discharged,
        last_episode.discharge_date as last_discharge_date,
        last_episode.discharge_method as last_discharge_method,
        last_episode.discharge_destination as last_discharge_destination,
        last_episode.record as last_record,
        last_episode.episode_count
    from episode as first_episode
    left join last_episode on first_episode.record = last_episode.spell_record
    where
        first_episode.record not in (select record from spell_episode where episode_number > 1)
),
ended as (
    select
        * exclude (discharge_date, discharge_method, discharge_destination),
        case when is_several then last_discharged else discharged end as finished,
        case when is_several then last_discharge_date else discharge_date end as discharge_date,
        case when is_several then last_discharge_method else discharge_method end as discharge_method,
        case when is_several then last_discharge_destination else discharge_destination end as discharge_destination
    from stay
)
select
    episode_id as spell_id,
    replace(person::varchar, '-', '') as person_token,
    provider,
    site,
    coalesce(recorded_admission_date, episode_start) as admission_date,
    recorded_admission_date is not null as admission_date_recorded,
    admission_method,
    admission_source,
    patient_class,
    episode_type,
    sex,
    start_age,
    primary_diagnosis,
    primary_diagnosis_state,
    finished,
    case when finished then discharge_date end as discharge_date,
    case when finished then discharge_method end as discharge_method,
    case when finished then discharge_destination end as discharge_destination,
    coalesce(finished and discharge_method = '4', false) as died_in_hospital,
    -- The year the discharge falls in, 1 April to 31 March, as '2019-20'.
    case
        when finished
            then
                year(discharge_date - interval 3 month)::varchar || '-'
                || lpad(((year(discharge_date - interval 3 month) + 1) % 100)::varchar, 2, '0')
    end as financial_year,
    coalesce(episode_count, 1)::smallint as episode_count,
    -- Regular day and night attenders are no inpatients.
    list_contains($regular_attender_classes, coalesce(patient_class, '')) as regular_attender,
    secondary_count,
    deprivation_decile,
    birth_weight_grams,
    record as spell_record,
    coalesce(last_record, record) as last_record
from ended
