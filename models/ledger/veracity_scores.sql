with

findings as (

    select * from {{ ref('findings') }}

),

loaded_files as (

    select * from {{ ref('loaded_files') }}

),

checks as (

    select * from {{ source('runs', 'checks') }}

),

reasons as (

    select * from {{ ref('veracity_reasons') }}

),

weights as (

    {{ veracity_weights() | indent(4) }}

),

lineage as (

    {{ marts_and_their_sources() | indent(4) }}

),

source_tables as (

    select
        source,
        table_name,
        source || '.' || table_name as full_name,
        cast(sum(rows_read) as bigint) as row_count
    from loaded_files
    group by source, table_name
    having sum(rows_read) > 0

),

-- each subject with the source tables that it is made from
subjects as (

    select 'table' as subject_kind, full_name as subject, full_name, row_count
    from source_tables
    union all
    select 'source' as subject_kind, source as subject, full_name, row_count
    from source_tables
    union all
    select 'mart' as subject_kind, lineage.mart as subject, full_name, row_count
    from lineage
    inner join source_tables
        on lineage.source = source_tables.source
        and lineage.table_name = source_tables.table_name

),

defective_rows as (

    select
        source || '.' || table_name as full_name,
        {{ veracity_part_of_defect('defect') }} as part,
        count(distinct concat(
            coalesce(_file, record_key, ''), ' ', coalesce(cast(_row as string), '')
        )) as row_count
    from findings
    group by all

),

freshness as (

    select
        relation as full_name,
        case status when 'ok' then 1.0 when 'warned' then 0.5 else 0.0 end as share
    from checks
    where check_kind = 'freshness'

),

table_parts as (

    select
        source_tables.full_name,
        weights.part,
        weights.weight,
        cast(source_tables.row_count as double) as row_count,
        case when weights.part = 'fresh' then freshness.share else 1.0 end
        * (source_tables.row_count - least(coalesce(defective_rows.row_count, 0), source_tables.row_count))
        as sound_row_count
    from source_tables
    cross join weights
    left join defective_rows
        on source_tables.full_name = defective_rows.full_name
        and weights.part = defective_rows.part
    left join freshness
        on source_tables.full_name = freshness.full_name
    where weights.part <> 'fresh' or freshness.full_name is not null

),

tested as (

    select
        relation,
        {{ veracity_part_of_test('test_type') }} as part,
        avg(case when status = 'ok' then 1.0 else 0.0 end) as share
    from checks
    where check_kind = 'test'
    group by all

),

derived as (

    select
        subjects.subject_kind,
        subjects.subject,
        table_parts.part,
        max(table_parts.weight) as weight,
        sum(table_parts.sound_row_count) as sound_row_count,
        sum(table_parts.row_count) as row_count
    from subjects
    inner join table_parts
        on subjects.full_name = table_parts.full_name
    group by subjects.subject_kind, subjects.subject, table_parts.part

),

scored as (

    select
        derived.subject_kind,
        derived.subject,
        derived.part,
        derived.weight,
        derived.sound_row_count,
        derived.row_count,
        round(derived.sound_row_count / derived.row_count * coalesce(tested.share, 1.0), 6) as score
    from derived
    left join tested
        on derived.subject_kind = 'mart'
        and derived.subject = tested.relation
        and derived.part = tested.part

),

lowered as (

    select
        subjects.subject_kind,
        subjects.subject,
        reasons.part,
        reasons.row_count,
        case when reasons.row_count = 1 then '1 row: ' else coalesce(cast(reasons.row_count as string) || ' rows: ', '') end
        || reasons.reason || ' (' || reasons.relation || ')' as told
    from subjects
    inner join reasons
        on subjects.full_name = reasons.relation
        or (subjects.subject_kind = 'mart' and subjects.subject = reasons.relation)
    group by all

),

ranked as (

    select
        subject_kind,
        subject,
        part,
        told,
        row_number() over (
            partition by subject_kind, subject, part order by row_count desc nulls first, told
        ) as place
    from lowered

),

told as (

    select
        subject_kind,
        subject,
        part,
        concat_ws(
            '; ',
            max(case when place = 1 then told end),
            max(case when place = 2 then told end),
            max(case when place = 3 then told end),
            case when max(place) > 3 then cast(max(place) - 3 as string) || ' more' end
        ) as to_raise
    from ranked
    group by all

),

overall as (

    select
        subject_kind,
        subject,
        max_by(part, weight * (1 - score)) as worst_part,
        sum(weight) as weight,
        sum(sound_row_count * weight) / sum(weight) as sound_row_count,
        max(row_count) as row_count,
        round(sum(score * weight) / sum(weight), 6) as score
    from scored
    group by all

),

listed as (

    select
        subject_kind,
        subject,
        part,
        score,
        weight,
        sound_row_count,
        row_count,
        coalesce(told.to_raise, '') as to_raise
    from scored
    left join told using (subject_kind, subject, part)
    union all
    select
        overall.subject_kind,
        overall.subject,
        'overall' as part,
        overall.score,
        overall.weight,
        overall.sound_row_count,
        overall.row_count,
        case when overall.score < 1 then overall.worst_part || ': ' || coalesce(told.to_raise, '') else '' end
        as to_raise
    from overall
    left join told
        on overall.subject_kind = told.subject_kind
        and overall.subject = told.subject
        and overall.worst_part = told.part

)

select * from listed
