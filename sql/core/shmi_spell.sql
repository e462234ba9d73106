-- Table shmi_spell: the spells that case-mix adjusted mortality looks at, one row per provider spell of three years.
--
-- Sources: shmi_stay, shmi_second_episode, shmi_marked_spell, shmi_condition, mortality_code, mortality_charlson,
--   mortality_level, mortality_period.
-- spell_record as in provider_spell; provider as it is called at the end of the period reported; site of the first
-- episode; diagnosis_group empty where the diagnosis is missing or in no group; pattern: one number for diagnosis group
-- and level of each factor, empty where no model covers the diagnosis; in_report: discharged in the months reported.
-- Not in it: day cases, regular attenders, stillbirths, providers that are not covered, COVID-19 before its day.
with diagnosed as (
    select
        shmi_stay.* exclude (secondary_count),
        -- Depth of coding is that of the episode whose diagnosis counts.
        coalesce(
            case when shmi_second_episode.record is null then shmi_stay.secondary_count end,
            shmi_second_episode.secondary_count,
            0
        )::utinyint as secondary_count,
        coalesce(shmi_second_episode.record, shmi_stay.spell_record) as diagnosis_record,
        coalesce(shmi_second_episode.diagnosis, shmi_stay.primary_diagnosis) as diagnosis,
        coalesce(shmi_marked_spell.is_palliative, false) as is_palliative
    from shmi_stay
    left join shmi_second_episode on shmi_stay.spell_record = shmi_second_episode.spell_record
    left join shmi_marked_spell on shmi_stay.spell_record = shmi_marked_spell.spell_record
    where
        not coalesce(shmi_marked_spell.has_covid, false)
        or shmi_stay.discharge_date >= $covid_included_from
),
described as (
    select
        diagnosed.*,
        mortality_code.diagnosis_group,
        mortality_code.modelled_group,
        coalesce(mortality_charlson.charlson_index, 0) as charlson_index
    from diagnosed
    left join mortality_code on diagnosed.diagnosis = mortality_code.code
    left join shmi_condition on diagnosed.diagnosis_record = shmi_condition.record
    left join mortality_charlson on shmi_condition.conditions = mortality_charlson.conditions
),
valued as (
    select
        described.*,
        mortality_period.report_from <= described.discharge_date as in_report,
        (
            (year(mortality_period.report_to) * 12 + month(mortality_period.report_to))
            - (year(described.discharge_date) * 12 + month(described.discharge_date))
        ) // 12 + 1 as year_index,
        case
            when list_contains($birth_weight_groups, described.modelled_group::varchar)
                then coalesce(described.birth_weight_grams::varchar, '')
            else $without_birth_weight
        end as birth_weight
    from described
    cross join mortality_period
)
select
    valued.spell_record,
    valued.provider,
    valued.site,
    valued.discharge_date,
    valued.in_report,
    valued.diagnosis_group::usmallint as diagnosis_group,
    (
        valued.modelled_group * $group_step + age_group.part + sex.part + admission_class.part + charlson_band.part
        + year_index.part + admission_month.part + birth_weight.part
    )::integer as pattern,
    valued.charlson_index::usmallint as charlson_index,
    admission_class.level as admission_class,
    valued.secondary_count,
    valued.is_palliative,
    valued.deprivation_decile,
    valued.died,
    valued.died_in_hospital
from valued
inner join mortality_level as age_group
    on age_group.factor = 'age_group' and coalesce(valued.start_age::varchar, '') = age_group.value
inner join mortality_level as sex on sex.factor = 'sex' and coalesce(valued.sex, '') = sex.value
inner join mortality_level as admission_class
    on admission_class.factor = 'admission_class' and coalesce(valued.admission_method, '') = admission_class.value
inner join mortality_level as charlson_band
    on charlson_band.factor = 'charlson_band' and valued.charlson_index::varchar = charlson_band.value
inner join mortality_level as year_index
    on year_index.factor = 'year_index' and valued.year_index::varchar = year_index.value
inner join mortality_level as admission_month
    on admission_month.factor = 'admission_month' and valued.admission_month::varchar = admission_month.value
inner join mortality_level as birth_weight
    on birth_weight.factor = 'birth_weight' and valued.birth_weight = birth_weight.value
