-- Table delivery_case_mix: the group of like deliveries with which each delivery is compared.
--
-- Source: delivery. Columns: delivery_record, case_mix_group. The groups are mode of delivery, multiple birth and the
-- mother's age band within a financial year. A group with fewer than $fewest_deliveries_in_group deliveries in the year
-- is too small for a rate of its own: its deliveries lose the age band; those of a mode and number that are then
-- still too few lose the number; those of a mode still too few are put together as the rest. Every delivery is in one
-- group, so that expected numbers add up to what was observed. Deliveries on days that the data do not cover are in
-- none. See infra/decisions/0158-puerperal-infection.md.
with counted as (
    select
        delivery_record,
        financial_year,
        mode,
        multiple,
        age_band,
        count(*) over (partition by financial_year, mode, multiple, age_band) >= $fewest_deliveries_in_group as enough
    from delivery
    where followed_until is not null
),
without_age as (
    select
        *,
        enough
        or count(*) over (partition by financial_year, mode, multiple, enough) >= $fewest_deliveries_in_group
            as enough_without_age
    from counted
),
without_number as (
    select
        *,
        enough_without_age
        or count(*) over (partition by financial_year, mode, enough_without_age) >= $fewest_deliveries_in_group
            as enough_of_mode
    from without_age
)
select
    delivery_record,
    case
        when enough then concat_ws(', ', mode, case when multiple then 'multiple' else 'single' end, age_band)
        when enough_without_age then concat_ws(', ', mode, case when multiple then 'multiple' else 'single' end)
        when enough_of_mode then mode
        else 'rest'
    end as case_mix_group
from without_number
