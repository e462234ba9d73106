-- Run after query.sql; its result is indicator_result. Each statement returns the number of offending rows.

-- fail: a period, provider and stratum come once
select count(*) from (
    select period, provider, stratum from indicator_result group by period, provider, stratum having count(*) > 1
) as repeated;

-- fail: no count is above what it was counted among
select count(*) from indicator_result where numerator > denominator;

-- fail: the groups of each dimension add up to the whole provider
select count(*) from (
    select
        provider,
        split_part(stratum, ':', 1) as dimension,
        sum(numerator) as numerator,
        sum(denominator) as denominator
    from indicator_result
    where stratum <> 'all'
    group by provider, dimension
) as added
full join (select * from indicator_result where stratum = 'all') as whole on added.provider = whole.provider
where
    coalesce(added.numerator <> whole.numerator, true) or coalesce(added.denominator <> whole.denominator, true);
