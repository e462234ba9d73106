-- Table episode_record: every row of hes_apc in the terms of a spell, with the reason why it cannot be used.
--
-- Sources: hes_apc, hes_person_bridge. One row per row of hes_apc; left_out is null where the row can be used.
-- Rules and their sources: infra/decisions/0101-spell-episode.md. Code lists: parameters.yaml.
with person_bridge as (
    -- An old token that stands for more than one new one is resolved to the smallest: arbitrary but the same in
    -- every run. core_count says how often that happened.
    select old_person_token, min(person_token) as person_token
    from hes_person_bridge
    where person_token is not null
    group by old_person_token
),
delivered as (
    select
        apc.epikey as episode_id,
        -- A token is 32 hexadecimal characters: as a UUID it takes half the room, and sorts and joins faster.
        try_cast(coalesce(person_bridge.person_token, apc.person_token) as uuid) as person,
        apc.partyear::varchar as partyear,
        -- The organisation that treated the patient. PROCODET is the only code that is right for every kind of
        -- provider; a treatment centre ("-X") belongs to its hospital; a five-character code of the form letter,
        -- digit, letter, digit, letter is whole, so its first three characters name nobody.
        coalesce(
            regexp_replace(
                case when not list_contains($no_provider_codes, apc.procodet) then apc.procodet end, '-X$', ''
            ),
            case when regexp_matches(apc.procode5, '^[A-Z][0-9][A-Z][0-9][A-Z]$') then apc.procode5 end,
            case when not list_contains($no_provider_codes, apc.procode3) then apc.procode3 end,
            case when not list_contains($no_provider_codes, apc.procode5) then apc.procode5 end
        ) as provider,
        case when not list_contains($no_provider_codes, apc.sitetret) then apc.sitetret end as site,
        apc.admidate,
        apc.admimeth as admission_method,
        apc.admisorc as admission_source,
        apc.epistart as episode_start,
        coalesce(apc.epiend, case when apc.epistat = '3' then apc.disdate end) as episode_end,
        -- 98 not applicable, 99 not known.
        case when apc.epiorder between 1 and 87 then apc.epiorder::smallint end as episode_order,
        apc.epistat = '3' as finished_episode,
        apc.epistat,
        apc.epitype as episode_type,
        apc.classpat as patient_class,
        -- A discharge before the episode began is not believed.
        case when apc.disdate >= apc.epistart then apc.disdate end as disdate,
        apc.disdest as discharge_destination,
        apc.dismeth as discharge_method,
        -- 8 says that the spell goes on, whatever date stands beside it. 1 to 7 say that it ended. 9, or nothing,
        -- says neither: then a discharge date decides.
        coalesce(apc.epistat = '3', false) and case
            when apc.dismeth = '8' then false
            when apc.dismeth in ('1', '2', '3', '4', '5', '6', '7') then true
            else coalesce(apc.disdate >= apc.epistart, false)
        end as discharged,
        coalesce(
            list_contains($transfer_admission_sources, apc.admisorc)
            or list_contains($transfer_admission_methods, apc.admimeth),
            false
        ) as transfer_in,
        coalesce(list_contains($transfer_discharge_destinations, apc.disdest), false) as transfer_out,
        apc.sex,
        apc.startage as start_age,
        upper(coalesce(nullif(apc.diag_01, '-'), nullif(apc.diag_4_01, '-'), nullif(apc.diag_3_01, '-')))
            as delivered_diagnosis,
        upper(coalesce(
            nullif(concat_ws(
                ' ',
                apc.diag_02, apc.diag_03, apc.diag_04, apc.diag_05, apc.diag_06, apc.diag_07, apc.diag_08,
                apc.diag_09, apc.diag_10, apc.diag_11, apc.diag_12, apc.diag_13, apc.diag_14, apc.diag_15,
                apc.diag_16, apc.diag_17, apc.diag_18, apc.diag_19, apc.diag_20
            ), ''),
            concat_ws(
                ' ',
                apc.diag_4_02, apc.diag_4_03, apc.diag_4_04, apc.diag_4_05, apc.diag_4_06, apc.diag_4_07,
                apc.diag_4_08, apc.diag_4_09, apc.diag_4_10, apc.diag_4_11, apc.diag_4_12, apc.diag_4_13,
                apc.diag_4_14, apc.diag_4_15, apc.diag_4_16, apc.diag_4_17, apc.diag_4_18, apc.diag_4_19,
                apc.diag_4_20
            )
        )) as secondary_diagnoses,
        -- 315: palliative medicine, as the specialty of treatment or of the consultant.
        coalesce(apc.tretspef = '315' or apc.mainspef = '315', false) as palliative_specialty,
        list_position($deprivation_deciles, apc.imd04_decile)::tinyint as deprivation_decile,
        try_cast(apc.birweit_1 as smallint) as birth_weight_grams
    from hes_apc as apc
    left join person_bridge on apc.person_token = person_bridge.old_person_token
)
select
    episode_id,
    person,
    partyear,
    provider,
    site,
    -- Only a first episode that is no transfer in begins where the stay begins.
    coalesce(admidate, case when episode_order = 1 and not transfer_in then episode_start end) as admission_date,
    admission_method,
    admission_source,
    episode_start,
    episode_end,
    episode_order,
    finished_episode,
    episode_type,
    patient_class,
    case when discharged then coalesce(disdate, episode_end) end as discharge_date,
    discharge_destination,
    discharge_method,
    discharged,
    -- In the order in which a day's movements happen: none, out, in and out again, in.
    (case when transfer_in and transfer_out then 2 when transfer_in then 3 when transfer_out then 1 else 0 end)::tinyint
        as transit,
    sex,
    start_age,
    case when not starts_with(delivered_diagnosis, 'R69X') then delivered_diagnosis end as primary_diagnosis,
    case
        when delivered_diagnosis is null or starts_with(delivered_diagnosis, 'R69X6') then 'null'
        when starts_with(delivered_diagnosis, 'R69X') then 'invalid'
        else 'valid'
    end as primary_diagnosis_state,
    -- Of the secondary diagnoses only those that some indicator or comorbidity asks for: all of them would take more
    -- memory than the rest of the table. A test holds that no code that is asked for is left out here.
    case
        when regexp_matches(secondary_diagnoses, '\b(?:A0[24]|A22|A26|A32|A4[0-29]|B2[0-4]|B37|B95|C\d\d|E1[0-4]|F0[0-35]|G04|G4[56]|G8[12]|I1[23]|I2[1-35]|I50|I6\d|I7[139]|J15|J4[0-7]|J6[0-7]|K2[5-8]|K7[0-7]|M0[56]|M3[2-5]|N0[1357]|N1[89]|N25|O\d\d|P3[6-9]|R02|R65|T8[1-5]|U0[47]|U8\d|Z37|Z38|Z51|Z95)\w*')
            then regexp_extract_all(secondary_diagnoses, '\b(?:A0[24]|A22|A26|A32|A4[0-29]|B2[0-4]|B37|B95|C\d\d|E1[0-4]|F0[0-35]|G04|G4[56]|G8[12]|I1[23]|I2[1-35]|I50|I6\d|I7[139]|J15|J4[0-7]|J6[0-7]|K2[5-8]|K7[0-7]|M0[56]|M3[2-5]|N0[1357]|N1[89]|N25|O\d\d|P3[6-9]|R02|R65|T8[1-5]|U0[47]|U8\d|Z37|Z38|Z51|Z95)\w*')
    end as secondary_codes,
    len(regexp_extract_all(secondary_diagnoses, '\b(?:[A-QS-Z]\d|R[0-57-9]|R6[0-8])\w+'))::utinyint as secondary_count,
    palliative_specialty,
    deprivation_decile,
    birth_weight_grams,
    case
        when person is null then 'no person'
        when episode_id is null then 'no record key'
        when epistat is null or epistat not in ('1', '3') then 'episode status neither finished nor unfinished'
        when episode_start is null then 'no start of the episode'
        when finished_episode and episode_end is null then 'finished without an end of the episode'
        when episode_end < episode_start then 'ends before it starts'
        when provider is null then 'no provider'
    end as left_out
from delivered
