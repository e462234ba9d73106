-- Emergency readmission of the baby within 28 days of birth, by provider of birth and financial year.
--
-- Numerator: babies who, sent home, were admitted again at any provider, by one of $emergency_methods, 0 to
--   $days_after_birth days after birth. A baby counts once.
-- Denominator: babies who have a birth record of their own, born alive, whose stay is finished and whose
--   $days_after_birth days the data cover.
-- Exclusions: stillbirths; babies who died in the stay of their birth; stays not finished.
-- Source: see metadata.yaml and infra/decisions/0159-maternity-outliers.md.
with sent_home as (
    select
        birth.spell_id,
        birth.financial_year,
        birth.provider,
        birth.person_token,
        birth.birth_date + $days_after_birth as last_day,
        stay.continuous_inpatient_spell_id,
        -- Of two stays that begin and end on one day nobody can say which came first.
        case when stay.admission_date < stay.discharge_date then stay.discharge_date else stay.discharge_date + 1 end
            as first_day
    from birth
    inner join continuous_inpatient_spell_member as member on birth.spell_id = member.spell_id
    inner join continuous_inpatient_spell as stay
        on member.continuous_inpatient_spell_id = stay.continuous_inpatient_spell_id
    where
        not birth.stillborn
        and stay.finished
        and not stay.died_in_hospital
        and birth.birth_date + $days_after_birth <= birth.followed_until
),
readmitted as (
    select distinct sent_home.spell_id
    from sent_home
    inner join continuous_inpatient_spell as later on sent_home.person_token = later.person_token
    where
        later.continuous_inpatient_spell_id <> sent_home.continuous_inpatient_spell_id
        and later.admission_date between sent_home.first_day and sent_home.last_day
        and list_contains($emergency_methods, later.admission_method)
)
select
    sent_home.financial_year as period,
    sent_home.provider,
    'all' as stratum,
    count(readmitted.spell_id) as numerator,
    count(*) as denominator
from sent_home
left join readmitted on sent_home.spell_id = readmitted.spell_id
group by sent_home.financial_year, sent_home.provider
order by sent_home.financial_year, sent_home.provider
