-- Table return_after_birth: mothers and babies who were sent home, and each later stay of theirs.
--
-- Sources: delivery, birth, continuous_inpatient_spell, continuous_inpatient_spell_member. Columns: person ('mother' or
-- 'baby'), spell_id (of the delivery, or of the baby's first stay), financial_year, provider, birth_date, followed_until,
-- days_to_return (from the birth to the later admission), admission_method (of the later stay). One row per later stay at
-- any provider; one with both empty for who never returned. Left out: who died in the stay of the birth, stays not
-- finished, stillbirths, babies without a record of their own, regular attendances.
with born as (
    select
        'mother' as person,
        spell_id,
        continuous_inpatient_spell_id as stay_id,
        person_token,
        financial_year,
        provider,
        delivery_date as birth_date,
        followed_until
    from delivery
    union all
    select
        'baby' as person,
        birth.spell_id,
        member.continuous_inpatient_spell_id as stay_id,
        birth.person_token,
        birth.financial_year,
        birth.provider,
        birth.birth_date,
        birth.followed_until
    from birth
    inner join continuous_inpatient_spell_member as member on birth.spell_id = member.spell_id
    where not birth.stillborn
),
sent_home as (
    select
        born.*,
        -- Of two stays that begin and end on one day nobody can say which came first.
        case when stay.admission_date < stay.discharge_date then stay.discharge_date else stay.discharge_date + 1 end
            as first_day
    from born
    inner join continuous_inpatient_spell as stay on born.stay_id = stay.continuous_inpatient_spell_id
    where stay.finished and not stay.died_in_hospital
)
select
    sent_home.person,
    sent_home.spell_id,
    sent_home.financial_year,
    sent_home.provider,
    sent_home.birth_date,
    sent_home.followed_until,
    later.admission_date - sent_home.birth_date as days_to_return,
    later.admission_method
from sent_home
left join continuous_inpatient_spell as later
    on
        sent_home.person_token = later.person_token
        and sent_home.stay_id <> later.continuous_inpatient_spell_id
        and sent_home.first_day <= later.admission_date
