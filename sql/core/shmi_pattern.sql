-- Table shmi_pattern: covariate patterns, spells that are alike in diagnosis group and in every factor; dropped after
-- the build.
--
-- Source: shmi_spell. Columns: pattern, spells, deaths.
select
    pattern,
    count(*) as spells,
    count(*) filter (where died) as deaths
from shmi_spell
where pattern is not null
group by pattern
