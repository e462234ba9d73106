-- View continuous_inpatient_spell: one row per unbroken time as an inpatient, across providers.
--
-- Sources: provider_spell, continuous_inpatient_spell_chain. The id is the spell_id of the first provider spell, whose
-- admission it has; the discharge is that of the provider spell that ends last. It has no discharge (finished is
-- false) while one of its provider spells is open.
select
    first_stay.spell_id as continuous_inpatient_spell_id,
    first_stay.person_token,
    first_stay.provider as first_provider,
    coalesce(chain.last_provider, first_stay.provider) as last_provider,
    first_stay.admission_date,
    first_stay.admission_method,
    coalesce(chain.finished, first_stay.finished) as finished,
    case
        when chain.spell_id is null then first_stay.discharge_date
        when chain.finished then chain.last_discharge_date
    end as discharge_date,
    case
        when chain.spell_id is null then first_stay.died_in_hospital
        else chain.finished and chain.last_died_in_hospital
    end as died_in_hospital,
    coalesce(chain.spell_count, 1)::integer as spell_count
from provider_spell as first_stay
left join continuous_inpatient_spell_chain as chain on first_stay.spell_id = chain.spell_id
where not first_stay.regular_attender and coalesce(chain.spell_number = 1, true)
