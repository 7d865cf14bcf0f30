with persons as (
    select * from {{ ref("int_persons_normalised") }}
),

evidence as (
    select
        customer_record_key,
        'email' as block,
        email_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'phone' as block,
        phone_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'name and birth' as block,
        name_key || '|' || birth_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'name and postal code' as block,
        name_key || '|' || postal_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'birth and family name' as block,
        birth_key || '|' || left(family_name, 3) as evidence
    from persons
    union all
    select
        customer_record_key,
        'birth and given name' as block,
        birth_key || '|' || left(given_name, 3) as evidence
    from persons
    union all
    select
        customer_record_key,
        'birth and postal code' as block,
        birth_key || '|' || postal_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'street and postal code' as block,
        street_key || '|' || postal_key as evidence
    from persons
    union all
    select
        customer_record_key,
        'postal code and family name' as block,
        postal_key || '|' || left(family_name, 3) as evidence
    from persons
    union all
    select
        customer_record_key,
        'postal code and given name' as block,
        postal_key || '|' || left(given_name, 3) as evidence
    from persons
    union all
    select
        customer_record_key,
        'street and family name' as block,
        street_key || '|' || left(family_name, 3) as evidence
    from persons
    union all
    select
        customer_record_key,
        'street and given name' as block,
        street_key || '|' || left(given_name, 3) as evidence
    from persons
),

counted as (
    select
        customer_record_key,
        block,
        evidence,
        count(*) over (partition by block, evidence) as record_count
    from evidence
    where evidence is not null
),

telling as (
    select
        customer_record_key,
        block,
        evidence
    from counted
    where record_count between 2 and {{ var("person_block_max_records") }}
),

paired as (
    select
        earlier.customer_record_key,
        later.customer_record_key as other_customer_record_key,
        count(*) as block_count
    from telling as earlier
    inner join telling as later
        on
            earlier.block = later.block
            and earlier.evidence = later.evidence
            and earlier.customer_record_key < later.customer_record_key
    group by all
)

select * from paired
