with

past as (

    select * from {{ source('runs', 'past_versions') }}

),

listed as (

    select
        version,
        run_id,
        sealed_at,
        published_at,
        removed_at,
        table_count,
        row_count,
        size_bytes,
        git_revision
    from past

)

select * from listed
