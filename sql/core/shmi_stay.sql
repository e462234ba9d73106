-- Table shmi_stay: the spells of the model's years in scope, before their diagnosis is settled; dropped after the
-- build.
--
-- Sources: provider_spell, mortality_provider, mortality_period, shmi_death. Columns: those below;
-- provider is the organisation that the code stands for at the end of the period reported; secondary_count,
-- deprivation_decile and birth_weight_grams are those of the first episode.
select
    provider_spell.spell_record,
    mortality_provider.provider,
    provider_spell.site,
    provider_spell.discharge_date,
    provider_spell.primary_diagnosis,
    provider_spell.sex,
    provider_spell.start_age,
    provider_spell.admission_method,
    month(provider_spell.admission_date)::utinyint as admission_month,
    provider_spell.episode_count > 1
    and coalesce(starts_with(provider_spell.primary_diagnosis, $symptom_chapter), true) as asks_second_episode,
    provider_spell.secondary_count,
    provider_spell.deprivation_decile,
    provider_spell.birth_weight_grams,
    shmi_death.spell_id is not null as died,
    coalesce(shmi_death.died_in_hospital, false) as died_in_hospital
from provider_spell
inner join mortality_provider on provider_spell.provider = mortality_provider.code
inner join mortality_period
    on provider_spell.discharge_date between mortality_period.training_from and mortality_period.report_to
left join shmi_death on provider_spell.spell_id = shmi_death.spell_id
where
    provider_spell.finished
    and coalesce(provider_spell.discharge_method, '') <> $stillbirth_discharge_method
    and not list_contains($excluded_patient_classes, coalesce(provider_spell.patient_class, ''))
