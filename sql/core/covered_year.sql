-- Table covered_year: which days the admitted patient care in use covers, one row per financial year delivered.
--
-- Source: hes_apc (its delivery_id names the period: YYYYnn, nn from 01 for April to 12 and 13 for March, 99 the final
-- year). Columns: first_day, last_day, followed_until (the last day up to which everything from this year on is
-- covered without a gap: the end of follow-up). Periods are explained in infra/periods.py.
with period as (
    select distinct
        try_cast(split_part(delivery_id, '-', 2)[1:4] as integer) as start_year,
        try_cast(split_part(delivery_id, '-', 2)[5:6] as integer) as month
    from (select distinct delivery_id from hes_apc) as used
),
delivered as (
    select
        make_date(start_year, 4, 1) as first_day,
        (make_date(start_year, 4, 1) + to_months(max(least(month, 12))) - interval 1 day)::date as last_day
    from period
    where start_year is not null and month is not null
    group by start_year
),
beginning as (
    select
        *,
        coalesce(first_day <> lag(last_day) over (order by first_day) + 1, true) as after_a_gap
    from delivered
),
run as (
    select
        *,
        count(*) filter (where after_a_gap) over (order by first_day) as run_number
    from beginning
)
select
    first_day,
    last_day,
    max(last_day) over (partition by run_number) as followed_until
from run
