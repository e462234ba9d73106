-- Table mortality_pattern: the risk of death in each covariate pattern, from the coefficients of its diagnosis group.
--
-- Sources: mortality_place (pattern, diagnosis_group, the place of its level in each factor, spells, deaths),
-- mortality_coefficient. Columns: pattern, diagnosis_group, year_index (1 for the months reported), spells, deaths,
-- risk (between 0 and 1). A group in which nobody or everybody died has no coefficients; the risk of its patterns is
-- its rate.
-- The terms are added in the order of the factors, so that the sum is rounded the same way in every run.
with term as (
    select diagnosis_group, factor, place, coefficient, spells, deaths
    from mortality_coefficient
)
select
    mortality_place.pattern,
    mortality_place.diagnosis_group,
    mortality_place.year_index + 1 as year_index,
    mortality_place.spells,
    mortality_place.deaths,
    case
        when intercept.coefficient is null then intercept.deaths / intercept.spells
        else
            1 / (
                1 + exp(-greatest(least(
                    intercept.coefficient + age_group.coefficient + sex.coefficient + admission_class.coefficient
                    + charlson_band.coefficient + year_index.coefficient + admission_month.coefficient
                    + birth_weight.coefficient,
                    $largest_exponent
                ), -$largest_exponent))
            )
    end::double as risk
from mortality_place
inner join term as intercept
    on intercept.factor = 'intercept' and mortality_place.diagnosis_group = intercept.diagnosis_group
inner join term as age_group
    on
        age_group.factor = 'age_group'
        and mortality_place.diagnosis_group = age_group.diagnosis_group
        and mortality_place.age_group = age_group.place
inner join term as sex
    on
        sex.factor = 'sex'
        and mortality_place.diagnosis_group = sex.diagnosis_group
        and mortality_place.sex = sex.place
inner join term as admission_class
    on
        admission_class.factor = 'admission_class'
        and mortality_place.diagnosis_group = admission_class.diagnosis_group
        and mortality_place.admission_class = admission_class.place
inner join term as charlson_band
    on
        charlson_band.factor = 'charlson_band'
        and mortality_place.diagnosis_group = charlson_band.diagnosis_group
        and mortality_place.charlson_band = charlson_band.place
inner join term as year_index
    on
        year_index.factor = 'year_index'
        and mortality_place.diagnosis_group = year_index.diagnosis_group
        and mortality_place.year_index = year_index.place
inner join term as admission_month
    on
        admission_month.factor = 'admission_month'
        and mortality_place.diagnosis_group = admission_month.diagnosis_group
        and mortality_place.admission_month = admission_month.place
inner join term as birth_weight
    on
        birth_weight.factor = 'birth_weight'
        and mortality_place.diagnosis_group = birth_weight.diagnosis_group
        and mortality_place.birth_weight = birth_weight.place
