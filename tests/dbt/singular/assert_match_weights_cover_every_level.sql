-- What: every pair that was compared got a score.
-- Why: a level without a weight in the seed would drop its pairs in silence,
--     and with them customers that should be one.
-- A row: how many pairs were compared and how many scored.
-- To resolve: add the missing level to seeds/person_match_weights.csv.
with counts as (
    select
        (select count(*) from {{ ref("int_person_pairs_compared") }})
            as compared_count,
        (select count(*) from {{ ref("int_person_pairs_scored") }})
            as scored_count
)

select *
from counts
where compared_count != scored_count
