with persons as (
    select * from {{ ref("int_persons_unioned") }}
),

given_name_nicknames as (
    select * from {{ ref("given_name_nicknames") }}
),

nicknames as (
    select
        {{ fold_name("nickname") }} as nickname,
        {{ fold_name("given_name") }} as given_name
    from given_name_nicknames
),

folded as (
    select
        *,
        {{ fold_name("given_name") }} as given_name_folded,
        {{ fold_name("family_name") }} as family_name_folded,
        {{ replace_matches("phone", "[^0-9]") }} as phone_digits,
        lower(trim(email)) as email_lower
    from persons
),

spelled_out as (
    select
        folded.*,
        coalesce(given_names.given_name, folded.given_name_folded)
            as given_name_formal,
        coalesce(family_names.given_name, folded.family_name_folded)
            as family_name_formal
    from folded
    left join nicknames as given_names
        on folded.given_name_folded = given_names.nickname
    -- a swapped name has its given name in the other column
    left join nicknames as family_names
        on folded.family_name_folded = family_names.nickname
),

normalised as (
    select
        customer_record_key,
        source,
        given_name_formal as given_name,
        family_name_formal as family_name,
        {{ sorted_words("given_name_formal || ' ' || family_name_formal") }}
            as name_key,
        -- what stands behind a plus sign is a note to oneself
        split_part(split_part(email_lower, '@', 1), '+', 1)
        || '@'
        || nullif(split_part(email_lower, '@', 2), '') as email_key,
        -- country codes and trunk zeros stand in front of these
        right(nullif(phone_digits, ''), {{ var("person_phone_digits") }})
            as phone_key,
        lower(replace(replace(postal_code, ' ', ''), '-', '')) as postal_key,
        {{ fold_name("street") }}
        || ' '
        || {{ replace_matches("street", "[^0-9]") }} as street_key,
        cast(birth_date as string) as birth_key,
        first_seen_at
    from spelled_out
)

select * from normalised
