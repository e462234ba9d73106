-- Table singling_out: how many episodes are alone in what they say together about a person.
--
-- Source: episode. One run per combination in singling_out.yaml; the counts say how far the curated tables are from
-- anonymous, and so why only aggregates leave them. Columns: combination, records, unique_records.
-- A 64-bit hash stands for the combination: at five million episodes the chance that two differing ones meet, and one
-- unique record goes uncounted, is under one in a million.
with combined as (
    select
        hash(
            case when list_contains($fields, 'provider') then provider end,
            case when list_contains($fields, 'site') then site end,
            case when list_contains($fields, 'admission_date') then admission_date end,
            case when list_contains($fields, 'admission_month') then date_trunc('month', admission_date) end,
            case when list_contains($fields, 'discharge_date') then discharge_date end,
            case when list_contains($fields, 'sex') then sex end,
            case when list_contains($fields, 'start_age') then start_age end,
            case when list_contains($fields, 'primary_diagnosis') then primary_diagnosis end,
            case when list_contains($fields, 'admission_method') then admission_method end
        ) as likeness
    from episode
),
alike as (
    select likeness, count(*) as records
    from combined
    group by likeness
)
select
    $combination::varchar as combination,
    coalesce(sum(records), 0)::bigint as records,
    count(*) filter (where records = 1) as unique_records
from alike
