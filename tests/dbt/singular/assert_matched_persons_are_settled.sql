-- What: two records that match are one customer.
-- Why: customers are found by handing keys from record to record in a fixed
--     number of rounds; too few would split a long chain of records.
-- A row: a matching pair whose records have different customers.
-- To resolve: raise the variable person_match_rounds.
select
    pairs.customer_record_key,
    pairs.other_customer_record_key,
    one.customer_key,
    other.customer_key as other_customer_key
from {{ ref("int_person_pairs_scored") }} as pairs
inner join {{ ref("int_persons_matched") }} as one
    on pairs.customer_record_key = one.customer_record_key
inner join {{ ref("int_persons_matched") }} as other
    on pairs.other_customer_record_key = other.customer_record_key
where pairs.is_match and one.customer_key != other.customer_key
