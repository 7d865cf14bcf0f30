with pairs as (
    select * from {{ ref("int_person_pairs_blocked") }}
),

persons as (
    select * from {{ ref("int_persons_normalised") }}
),

sides as (
    select
        pairs.customer_record_key,
        pairs.other_customer_record_key,
        one.name_key,
        one.given_name,
        one.family_name,
        one.email_key,
        one.phone_key,
        one.birth_key,
        one.postal_key,
        one.street_key,
        other.name_key as other_name_key,
        other.given_name as other_given_name,
        other.family_name as other_family_name,
        other.email_key as other_email_key,
        other.phone_key as other_phone_key,
        other.birth_key as other_birth_key,
        other.postal_key as other_postal_key,
        other.street_key as other_street_key
    from pairs
    inner join persons as one
        on pairs.customer_record_key = one.customer_record_key
    inner join persons as other
        on pairs.other_customer_record_key = other.customer_record_key
),

compared as (
    select
        customer_record_key,
        other_customer_record_key,
        case
            when name_key is null or other_name_key is null then 'missing'
            when name_key = other_name_key then 'exact'
            when
                least(length(given_name), length(other_given_name)) = 1
                and left(given_name, 1) = left(other_given_name, 1)
                and family_name = other_family_name
                then 'initial'
            when
                levenshtein(name_key, other_name_key)
                <= {{ var("person_name_max_typos") }}
                and left(given_name, 1) = left(other_given_name, 1)
                then 'close'
            when
                levenshtein(name_key, other_name_key)
                <= {{ var("person_name_max_typos") }}
                and family_name != other_family_name
                then 'close'
            when
                family_name = other_family_name
                or given_name = other_family_name
                or family_name = other_given_name
                then 'family'
            when given_name = other_given_name then 'given'
            else 'different'
        end as name_level,
        case
            when email_key is null or other_email_key is null then 'missing'
            when email_key = other_email_key then 'exact'
            else 'different'
        end as email_level,
        case
            when phone_key is null or other_phone_key is null then 'missing'
            when phone_key = other_phone_key then 'exact'
            else 'different'
        end as phone_level,
        case
            when birth_key is null or other_birth_key is null
                then 'missing'
            when birth_key = other_birth_key then 'exact'
            when
                levenshtein(birth_key, other_birth_key)
                <= {{ var("person_birth_max_typos") }}
                then 'close'
            else 'different'
        end as birth_level,
        case
            when postal_key is null or other_postal_key is null
                then 'missing'
            when postal_key = other_postal_key then 'exact'
            else 'different'
        end as postal_level,
        case
            when street_key is null or other_street_key is null
                then 'missing'
            when street_key = other_street_key then 'exact'
            when
                levenshtein(street_key, other_street_key)
                <= {{ var("person_street_max_typos") }}
                then 'close'
            else 'different'
        end as street_level
    from sides
)

select * from compared
