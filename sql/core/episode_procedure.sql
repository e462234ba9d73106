-- Table episode_procedure: the procedures of each episode that some indicator asks for, one row per code and date.
--
-- Sources: hes_apc, episode. Columns: record, code (OPCS-4, capitals, without dot), procedure_date (may be empty).
-- Kept are deliveries (R17 to R25) and the operations of surgical site infection; a test holds that no code that is
-- asked for is left out.
with delivered as (
    select
        epikey,
        [
            opertn_01, opertn_02, opertn_03, opertn_04, opertn_05, opertn_06, opertn_07, opertn_08, opertn_09,
            opertn_10, opertn_11, opertn_12, opertn_13, opertn_14, opertn_15, opertn_16, opertn_17, opertn_18,
            opertn_19, opertn_20, opertn_21, opertn_22, opertn_23, opertn_24
        ] as codes,
        [
            opertn_4_01, opertn_4_02, opertn_4_03, opertn_4_04, opertn_4_05, opertn_4_06, opertn_4_07,
            opertn_4_08, opertn_4_09, opertn_4_10, opertn_4_11, opertn_4_12, opertn_4_13, opertn_4_14,
            opertn_4_15, opertn_4_16, opertn_4_17, opertn_4_18, opertn_4_19, opertn_4_20, opertn_4_21,
            opertn_4_22, opertn_4_23, opertn_4_24
        ] as short_codes,
        [
            opdate_01, opdate_02, opdate_03, opdate_04, opdate_05, opdate_06, opdate_07, opdate_08, opdate_09,
            opdate_10, opdate_11, opdate_12, opdate_13, opdate_14, opdate_15, opdate_16, opdate_17, opdate_18,
            opdate_19, opdate_20, opdate_21, opdate_22, opdate_23, opdate_24
        ] as days
    from hes_apc
    where
        regexp_matches(
            upper(coalesce(nullif(concat_ws(
                ' ',
                opertn_01, opertn_02, opertn_03, opertn_04, opertn_05, opertn_06, opertn_07, opertn_08, opertn_09,
                opertn_10, opertn_11, opertn_12, opertn_13, opertn_14, opertn_15, opertn_16, opertn_17, opertn_18,
                opertn_19, opertn_20, opertn_21, opertn_22, opertn_23, opertn_24
            ), ''), concat_ws(
                ' ',
                opertn_4_01, opertn_4_02, opertn_4_03, opertn_4_04, opertn_4_05, opertn_4_06, opertn_4_07,
                opertn_4_08, opertn_4_09, opertn_4_10, opertn_4_11, opertn_4_12, opertn_4_13, opertn_4_14,
                opertn_4_15, opertn_4_16, opertn_4_17, opertn_4_18, opertn_4_19, opertn_4_20, opertn_4_21,
                opertn_4_22, opertn_4_23, opertn_4_24
            ))),
            '\b(?:R1[7-9]|R2[0-5]|W19|W24|W3[7-9]|W4\d|W5[0-8]|W9[3-5]|K4[0-6]|H0[4-9]|H1[01]|H29|H33|B2[7-9]|B3[0-3]|Q0[78]|V[2-4]\d|O18)'
        )
),
listed as (
    select epikey, unnest(codes) as code, unnest(short_codes) as short_code, unnest(days) as procedure_date
    from delivered
),
kept as (
    select distinct epikey, upper(coalesce(code, short_code)) as code, procedure_date
    from listed
    where regexp_matches(upper(coalesce(code, short_code)), '\b(?:R1[7-9]|R2[0-5]|W19|W24|W3[7-9]|W4\d|W5[0-8]|W9[3-5]|K4[0-6]|H0[4-9]|H1[01]|H29|H33|B2[7-9]|B3[0-3]|Q0[78]|V[2-4]\d|O18)')
)
select episode.record, kept.code, kept.procedure_date
from kept
inner join episode on kept.epikey = episode.episode_id
