with

findings as (

    select * from {{ ref('findings') }}

),

checks as (

    select * from {{ source('runs', 'checks') }}
    where status <> 'ok'

),

by_rule as (

    select
        source || '.' || table_name as relation,
        {{ veracity_part_of_defect('defect') }} as part,
        coalesce(rule, defect) as reason,
        count(distinct {{ place_of_finding() }}) as row_count
    from findings
    group by all

),

by_check as (

    select
        relation,
        case
            when check_kind = 'freshness' then 'fresh'
            else {{ veracity_part_of_test('test_type') }}
        end as part,
        case
            when check_kind = 'freshness' then 'its newest row is too old'
            else 'test ' || check_name || ' ' || status
        end as reason,
        failures as row_count
    from checks
    where relation <> ''

),

listed as (

    select
        relation,
        part,
        reason,
        row_count
    from by_rule
    union all
    select
        relation,
        part,
        reason,
        row_count
    from by_check

)

select * from listed
