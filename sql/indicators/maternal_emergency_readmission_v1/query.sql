-- Emergency readmission of the mother within 42 days of delivery, by delivering provider and financial year.
--
-- Numerator: deliveries after which the mother, sent home, was admitted again at any provider, by one of
--   $emergency_methods, 0 to $days_after_delivery days after the delivery. A delivery counts once.
-- Denominator: deliveries whose stay is finished and whose $days_after_delivery days the data cover.
-- Exclusions: mothers who died in the stay of the delivery; stays not finished; deliveries in regular attendances.
-- Source: see metadata.yaml and infra/decisions/0159-maternity-outliers.md.
with sent_home as (
    select
        delivery.delivery_record,
        delivery.financial_year,
        delivery.provider,
        delivery.person_token,
        delivery.delivery_date + $days_after_delivery as last_day,
        stay.continuous_inpatient_spell_id,
        -- Of two stays that begin and end on one day nobody can say which came first.
        case when stay.admission_date < stay.discharge_date then stay.discharge_date else stay.discharge_date + 1 end
            as first_day
    from delivery
    inner join continuous_inpatient_spell as stay
        on delivery.continuous_inpatient_spell_id = stay.continuous_inpatient_spell_id
    where
        stay.finished
        and not stay.died_in_hospital
        and delivery.delivery_date + $days_after_delivery <= delivery.followed_until
),
readmitted as (
    select distinct sent_home.delivery_record
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
    count(readmitted.delivery_record) as numerator,
    count(*) as denominator
from sent_home
left join readmitted on sent_home.delivery_record = readmitted.delivery_record
group by sent_home.financial_year, sent_home.provider
order by sent_home.financial_year, sent_home.provider
