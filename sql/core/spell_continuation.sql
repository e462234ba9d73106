-- Table spell_continuation: the provider spells that go on from another provider spell, and from which one.
--
-- Source: provider_spell. Columns: spell_id, goes_on_from (a spell_id). Default rule: NHS Digital's for continuous
-- inpatient spells, see parameters.yaml and infra/decisions/0103-spell-continuous-inpatient-spell.md.
-- A spell is compared with every earlier spell of the person that ended in time, neither with the previous row only
-- nor with the one that reaches furthest only: a short spell inside a long one hides neither.
with stay as (
    select
        spell_id,
        person_token,
        provider,
        finished,
        admission_date,
        discharge_date,
        admission_source,
        admission_method,
        discharge_destination,
        coalesce(
            list_contains($transfer_admission_sources, admission_source)
            or list_contains($transfer_admission_methods, admission_method),
            false
        ) as transfer_in,
        coalesce(list_contains($transfer_discharge_destinations, discharge_destination), false) as transfer_out
    from provider_spell
    where not list_contains($regular_attender_classes, coalesce(patient_class, ''))
),
placed as (
    select
        * exclude (admission_source, admission_method, discharge_destination),
        -- Same-day movements in the order in which they happen: out, in and out again, in.
        (case when transfer_in and transfer_out then 2 when transfer_in then 3 when transfer_out then 1 else 0 end)
            as transit,
        coalesce(
            admission_source = $new_emergency_admission_source
            and admission_method = $new_emergency_admission_method,
            false
        ) as may_be_new_emergency,
        coalesce(discharge_destination = $home_discharge_destination, false) as went_home
    from stay
),
ended as (
    select *
    from placed
    where finished
),
reachable as (
    -- Two joins rather than one: in each, one side is small, because few spells carry transfer codes.
    select later.spell_id, earlier.spell_id as earlier_spell_id
    from ended as earlier
    inner join placed as later on earlier.person_token = later.person_token
    where
        later.transfer_in
        and later.admission_date - earlier.discharge_date between $shortest_gap_days and $longest_gap_days
    union
    select later.spell_id, earlier.spell_id as earlier_spell_id
    from ended as earlier
    inner join placed as later on earlier.person_token = later.person_token
    where
        earlier.transfer_out
        and later.admission_date - earlier.discharge_date between $shortest_gap_days and $longest_gap_days
),
candidate as (
    select
        later.spell_id,
        earlier.spell_id as goes_on_from,
        row_number() over (
            partition by later.spell_id
            order by
                -- Both hospitals say transfer; then the nearest in time; then the one that began last.
                (earlier.transfer_out and later.transfer_in) desc,
                earlier.discharge_date desc,
                earlier.admission_date desc,
                earlier.transit desc,
                earlier.spell_id desc
        ) as place
    from reachable
    inner join placed as later on reachable.spell_id = later.spell_id
    inner join ended as earlier on reachable.earlier_spell_id = earlier.spell_id
    where
        not (earlier.went_home and later.may_be_new_emergency)
        -- Only ever backwards in time, so that no two stays of one day go on from each other.
        and (earlier.admission_date, earlier.discharge_date, earlier.transit, earlier.spell_id)
        < (later.admission_date, coalesce(later.discharge_date, date '9999-12-31'), later.transit, later.spell_id)
)
select spell_id, goes_on_from
from candidate
where place = 1
