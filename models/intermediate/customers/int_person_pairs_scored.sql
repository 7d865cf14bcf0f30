with pairs as (
    select * from {{ ref("int_person_pairs_compared") }}
),

weights as (
    select * from {{ ref("person_match_weights") }}
),

weighed as (
    select
        pairs.*,
        name_weights.weight
        + email_weights.weight
        + phone_weights.weight
        + birth_weights.weight
        + postal_weights.weight
        + street_weights.weight as score
    from pairs
    inner join weights as name_weights
        on name_weights.field = 'name'
            and pairs.name_level = name_weights.level
    inner join weights as email_weights
        on email_weights.field = 'email'
            and pairs.email_level = email_weights.level
    inner join weights as phone_weights
        on phone_weights.field = 'phone'
            and pairs.phone_level = phone_weights.level
    inner join weights as birth_weights
        on birth_weights.field = 'birth'
            and pairs.birth_level = birth_weights.level
    inner join weights as postal_weights
        on postal_weights.field = 'postal'
            and pairs.postal_level = postal_weights.level
    inner join weights as street_weights
        on street_weights.field = 'street'
            and pairs.street_level = street_weights.level
),

scored as (
    select
        customer_record_key,
        other_customer_record_key,
        name_level,
        email_level,
        phone_level,
        birth_level,
        postal_level,
        street_level,
        score,
        score >= {{ var("person_match_min_score") }} as is_match
    from weighed
)

select * from scored
