with

past as (

    select * from {{ source('runs', 'past_publications') }}

),

listed as (

    select
        publication_number,
        published_at,
        version,
        former_version,
        action,
        user_name,
        host_name,
        run_id
    from past

)

select * from listed
