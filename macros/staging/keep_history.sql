{% macro select_history(plan) -%}
with

placed as (

    select
        {%- for column in plan.clean_columns %}
        {{ column }},
        {%- endfor %}
        {%- for column in plan.version_order %}
        _order_{{ loop.index }},
        {%- endfor %}
        _load_id,
        {{ file_order("_file") }} as _file_order,
        _deleted,
        {%- if plan.history.is_logged %}
        _committed_at,
        {%- endif %}
        {{ load_time("_load_id") }} as _loaded_at
    from {{ plan.judged }}
    where
        _raw_record is null
        and _filter is null

),

-- a deletion is known from the load that missed the key
dated as (

    select
        *,
        max(case when _deleted then _loaded_at end) over (
            partition by {{ plan.key | join(", ") }}
            order by _load_id asc, _file_order asc, _row asc
            rows between unbounded preceding and 1 preceding
        ) as _gone_at,
        {%- if plan.history.is_logged %}
        -- rows from before the change log have the time of their load only
        coalesce(_committed_at, _loaded_at) as _told_at
        {%- else %}
        case
            when _deleted then _loaded_at
            else cast({{ plan.history.valid_from or "_loaded_at" }} as timestamp)
        end as _told_at
        {%- endif %}
    from placed

),

-- what comes back with its old date is there from the load that found it
settled as (

    select
        *,
        {%- if plan.history.is_logged %}
        _told_at as _since
        {%- else %}
        case when _told_at <= _gone_at then _loaded_at else _told_at end as _since
        {%- endif %}
    from dated

),

versions as (

    select
        *,
        cast({{ plan.history.born or "null" }} as timestamp) as _born,
        hash({{ plan.history.columns | join(", ") }}, _deleted) as _content,
        row_number() over (
            partition by {{ plan.key | join(", ") }}, _since
            order by {{ newest_first(plan) }}
        ) as _rank
    from settled

),

changes as (

    select
        *,
        coalesce(_content = lag(_content) over oldest_first, false) as _is_same,
        row_number() over oldest_first = 1 as _is_first
    from versions
    -- of versions of one moment the last holds
    where _rank = 1 and _since is not null
    window oldest_first as (
        partition by {{ plan.key | join(", ") }} order by _since asc
    )

),

lasting as (

    select
        *,
        lead(_since) over (
            partition by {{ plan.key | join(", ") }} order by _since asc
        ) as _until
    from changes
    where not _is_same

)

select
    {%- for column in plan.clean_columns %}
    {{ column }},
    {%- endfor %}
    case when _is_first then least(_since, coalesce(_born, _since)) else _since end as valid_from,
    _until as valid_to,
    _until is null as is_current
from lasting
where not _deleted
{%- endmacro %}


{% macro load_time(column) -%}
    make_timestamp(cast(cast({{ column }} as double) * 1000000 as bigint))
{%- endmacro %}


{% macro staging_history(model_name) -%}
    {#- beside ref(), so that dbt knows the order -#}
    {%- set staged = ref(model_name) -%}
    {{- return(staged.incorporate(path={"schema": "history", "identifier": model_name})) -}}
{%- endmacro %}
