-- Table shmi_marked_spell: spells with COVID-19 or palliative care in some episode; dropped after the build.
--
-- Sources: episode_record, spell_episode, shmi_code. Columns: spell_record, has_covid, is_palliative.
-- Palliative care is a code or the specialty of palliative medicine.
with marked as (
    select
        rowid as record,
        coalesce(
            primary_diagnosis in (select code from shmi_code where is_covid)
            or list_has_any(secondary_codes, (select list(code) from shmi_code where is_covid)),
            false
        ) as has_covid,
        coalesce(
            palliative_specialty
            or primary_diagnosis in (select code from shmi_code where is_palliative)
            or list_has_any(secondary_codes, (select list(code) from shmi_code where is_palliative)),
            false
        ) as is_palliative
    from episode_record
    where left_out is null
)
select
    spell_episode.spell_record,
    bool_or(marked.has_covid) as has_covid,
    bool_or(marked.is_palliative) as is_palliative
from marked
inner join spell_episode on marked.record = spell_episode.record
where marked.has_covid or marked.is_palliative
group by spell_episode.spell_record
