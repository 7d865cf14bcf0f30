{% macro select_staged_rows(plan, model_sql) -%}
with

cleaned as {{ inlined() }} (

{{ model_sql }}

),

kept as (

    select
        {%- for column in plan.clean_columns %}
        {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from cleaned
    where not exists (
        select 1
        from {{ plan.set_aside }} as set_aside
        where
            set_aside._file = cleaned._file
            and set_aside._row = cleaned._row
    )

)

select * from kept
{%- endmacro %}


{% macro select_clean_columns(plan, model_sql) -%}
select
    {%- for column in plan.clean_columns %}
    {{ column }}{{ "," if not loop.last }}
    {%- endfor %}
from (
{{ model_sql }}
) as cleaned
{%- endmacro %}


{% macro select_quarantined_rows(plan) -%}
select
    {{ sql_literal(plan.source) }} as source,
    {{ sql_literal(plan.table_name) }} as table_name,
    {{ sql_literal(plan.name) }} as model,
    {{ record_key(plan.key) }} as record_key,
    _reasons as reasons,
    _raw_record as raw_record,
    _file,
    _row,
    _load_id
from {{ plan.set_aside }}
where _outcome = 'quarantined'
{%- endmacro %}


{% macro select_absent_keys(plan) -%}
select
    {%- for column in plan.key %}
    {{ column }},
    {%- endfor %}
    case when _outcome = 'filtered' then _name else 'refers_to_deleted' end as absent_by
from {{ plan.set_aside }}
where _is_absent_key
{%- endmacro %}


{% macro count_outcomes(plan, staged) -%}
with

outcomes as (

    select
        _file,
        'staged' as outcome,
        cast(null as string) as name
    from {{ staged }}
    union all
    select
        _file,
        _outcome,
        _name
    from {{ plan.set_aside }}

)

select
    {{ sql_literal(plan.name) }} as model,
    {{ sql_literal(plan.source) }} as source,
    {{ sql_literal(plan.table_name) }} as table_name,
    _file,
    outcome,
    name,
    count(*) as row_count
from outcomes
group by _file, outcome, name
{%- endmacro %}


{% macro record_key(columns) -%}
    {%- if columns | length == 1 -%}
        cast({{ columns[0] }} as string)
    {%- else -%}
        concat_ws('|'
            {%- for column in columns -%}
                , coalesce(cast({{ column }} as string), '')
            {%- endfor -%}
        )
    {%- endif -%}
{%- endmacro %}
