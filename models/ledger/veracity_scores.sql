with

findings as (
    select * from {{ ref('findings') }}
),

subjects as (
    select * from {{ ref('veracity_subjects') }}
),

reasons as (
    select * from {{ ref('veracity_reasons') }}
),

checks as (
    select * from {{ source('runs', 'checks') }}
),

weights as (
    {{ veracity_weights() | indent(4) }}
),

defective_rows as (
    select
        source || '.' || table_name as relation,
        {{ veracity_part_of_defect('defect') }} as part,
        count(distinct {{ place_of_finding() }}) as row_count
    from findings
    group by all
),

freshness as (
    select
        relation,
        case status when 'ok' then 1.0 when 'warned' then 0.5 else 0.0 end
            as fresh_share
    from checks
    where check_kind = 'freshness'
),

table_parts as (
    select
        subjects.relation,
        weights.part,
        weights.weight,
        cast(subjects.row_count as double) as row_count,
        greatest(subjects.row_count - coalesce(defective_rows.row_count, 0), 0)
        * case weights.part when 'fresh' then freshness.fresh_share else 1.0 end
            as sound_row_count
    from subjects
    cross join weights
    left join defective_rows
        on subjects.relation = defective_rows.relation
            and weights.part = defective_rows.part
    left join freshness
        on subjects.relation = freshness.relation
    where subjects.subject_kind = 'table'
        and (weights.part <> 'fresh' or freshness.relation is not null)
),

tested as (
    select
        relation,
        {{ veracity_part_of_test('test_type') }} as part,
        avg(case when status = 'ok' then 1.0 else 0.0 end) as passed_share
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
        on subjects.relation = table_parts.relation
    group by all
),

ranked as (
    select
        subjects.subject_kind,
        subjects.subject,
        reasons.part,
        case
            when reasons.row_count = 1 then '1 row: '
            else coalesce(cast(reasons.row_count as string) || ' rows: ', '')
        end || reasons.reason || ' (' || reasons.relation || ')' as told,
        row_number() over (
            partition by subjects.subject_kind, subjects.subject, reasons.part
            order by
                reasons.row_count desc nulls first,
                reasons.reason asc nulls last,
                reasons.relation asc nulls last
        ) as place
    from subjects
    inner join reasons
        on subjects.relation = reasons.relation
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
            case
                when max(place) > 3
                    then cast(max(place) - 3 as string) || ' more'
            end
        ) as to_raise
    from ranked
    group by all
),

scored as (
    select
        derived.subject_kind,
        derived.subject,
        derived.part,
        round(
            derived.sound_row_count / nullif(derived.row_count, 0)
            * coalesce(tested.passed_share, 1.0), 6
        ) as score,
        derived.weight,
        derived.sound_row_count,
        derived.row_count,
        coalesce(told.to_raise, '') as to_raise
    from derived
    left join tested
        on derived.subject_kind = 'mart'
            and derived.subject = tested.relation
            and derived.part = tested.part
    left join told
        on derived.subject_kind = told.subject_kind
            and derived.subject = told.subject
            and derived.part = told.part
),

worst_first as (
    select
        scored.*,
        row_number() over (
            partition by subject_kind, subject
            order by weight * (1 - score) desc nulls last, part asc nulls last
        ) as place
    from scored
),

overall as (
    select
        subject_kind,
        subject,
        round(sum(score * weight) / nullif(sum(weight), 0), 6) as score,
        round(sum(weight), 6) as weight,
        -- the last digits of a sum of fractions depend on its order
        round(sum(sound_row_count * weight) / nullif(sum(weight), 0), 3)
            as sound_row_count,
        max(row_count) as row_count,
        max(case when place = 1 then part || ': ' || to_raise end) as to_raise
    from worst_first
    group by all
),

listed as (
    select
        subject_kind,
        subject,
        part,
        score,
        weight,
        round(sound_row_count, 3) as sound_row_count,
        row_count,
        to_raise
    from scored
    union all
    select
        subject_kind,
        subject,
        'overall' as part,
        score,
        weight,
        sound_row_count,
        row_count,
        case when score < 1 then to_raise else '' end as to_raise
    from overall
)

select * from listed
