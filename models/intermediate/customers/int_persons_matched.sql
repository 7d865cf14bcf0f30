with persons as (
    select * from {{ ref("int_persons_normalised") }}
),

pairs as (
    select * from {{ ref("int_person_pairs_scored") }}
    where is_match
),

-- the record seen first names the customer, so that later ones change no key
ranked as (
    select
        customer_record_key,
        -- an unknown moment comes last
        coalesce(cast(first_seen_at as string), '9999')
        || '|'
        || customer_record_key as seniority
    from persons
),

edges as (
    select
        one.seniority as record,
        other.seniority as other_record
    from pairs
    inner join ranked as one
        on pairs.customer_record_key = one.customer_record_key
    inner join ranked as other
        on pairs.other_customer_record_key = other.customer_record_key
),

links as (
    select
        record,
        other_record
    from edges
    union all
    select
        other_record as record,
        record as other_record
    from edges
    union all
    select
        record,
        record as other_record
    from edges
    union all
    select
        other_record as record,
        other_record
    from edges
),

components as (
    {{ connected_components(
        "links", "record", "other_record", var("person_match_rounds")
    ) }}
),

labelled as (
    select
        ranked.customer_record_key,
        -- a record without a match is a customer of its own
        coalesce(components.component, ranked.seniority) as first_seniority
    from ranked
    left join components
        on ranked.seniority = components.record
),

matched as (
    select
        customer_record_key,
        md5(first_seniority) as customer_key,
        count(*) over (partition by first_seniority) as record_count
    from labelled
)

select * from matched
