{% macro screen_rows(plan, model_sql) -%}
with

cleaned as {{ inlined() }} (

{{ model_sql }}

),

-- one column per rule: true if the row breaks it
judged as {{ inlined() }} (

    select
        cleaned.*
        {%- for rule in plan.rules %},
        {{ is_broken(rule) }} as _broken_{{ loop.index }}
        {%- endfor %}
,
        {{ filter_name(plan) }} as _filter
    from cleaned
    {%- for rule in plan.rules if rule.reference %}
    {{ join_reference(rule.reference) }}
    {%- endfor %}

),

reasoned as {{ inlined() }} (

    select
        *,
        case
            when not _deleted and (
                {%- for rule in plan.rules %}
                {{ "or " if not loop.first }}_broken_{{ loop.index }}
                {%- endfor %}
            )
                then concat_ws(
                    '; '
                    {%- for rule in plan.rules %},
                    case when _broken_{{ loop.index }} then {{ sql_literal(rule.reason) }} end
                    {%- endfor %}
                )
        end as _reasons
    from judged

),

-- only these need ranking: nearly all keys were read once
repeated_keys as (

    select
        {{ numbered_keys(plan) }}
    from cleaned
    group by {{ plan.key | join(", ") }}
    having count(*) > 1 or bool_or(_deleted)

),

-- the rows that may not be staged; the others need no further thought
doubtful as (

    select
        {{ set_aside_columns(plan) }},
        {%- for column in plan.version_order if column not in plan.key %}
        {{ column }} as _order_{{ loop.index }},
        {%- endfor %}
        _deleted,
        _filter,
        _reasons,
        case
            when _reasons is not null then cast(to_json(_record) as string)
        end as _raw_record,
        repeated_keys._key_1 is not null as _is_repeated
    from reasoned
    left join repeated_keys
        on
            {%- for column in plan.key %}
            {{ "and " if not loop.first }}reasoned.{{ column }} = repeated_keys._key_{{ loop.index }}
            {%- endfor %}
    where
        _reasons is not null
        or _filter is not null
        or repeated_keys._key_1 is not null

),

versions as (

    select
        {{ set_aside_columns(plan) }},
        row_number() over newest_first as _version,
        first_value(_deleted) over newest_first as _is_gone
    from doubtful
    where
        _reasons is null
        and _is_repeated
    window newest_first as (
        partition by {{ plan.key | join(", ") }}
        order by
            {%- for column in plan.version_order if column not in plan.key %}
            _order_{{ loop.index }} desc nulls last,
            {%- endfor %}
            _load_id desc,
            _file desc,
            _row desc
    )

),

superseded as (

    select
        {{ set_aside_columns(plan) }},
        'superseded' as _outcome,
        case when _is_gone then 'deleted' else 'newer_version' end as _name,
        _is_gone and _version = 1 as _is_absent_key,
        cast(null as string) as _reasons,
        cast(null as string) as _raw_record
    from versions
    where _version > 1 or _is_gone

),

quarantined as (

    select
        {{ set_aside_columns(plan) }},
        'quarantined' as _outcome,
        cast(null as string) as _name,
        false as _is_absent_key,
        _reasons,
        _raw_record
    from doubtful
    where _reasons is not null

),

filtered as (

    select
        {{ set_aside_columns(plan) }},
        'filtered' as _outcome,
        _filter as _name,
        true as _is_absent_key,
        cast(null as string) as _reasons,
        cast(null as string) as _raw_record
    from doubtful
    where
        _filter is not null
        and _reasons is null
        and not _deleted
        and not exists (
            select 1
            from superseded
            where
                superseded._file = doubtful._file
                and superseded._row = doubtful._row
        )

)

select * from superseded
union all
select * from quarantined
union all
select * from filtered
{%- endmacro %}


{% macro set_aside_columns(plan) -%}
    {%- for column in plan.key -%}
        {{ column }},
        {% endfor -%}
    _file,
        _row,
        _load_id
{%- endmacro %}


{% macro numbered_keys(plan) -%}
    {%- for column in plan.key -%}
        {{ column }} as _key_{{ loop.index }}{{ "," if not loop.last }}
        {%- if not loop.last %}
        {% endif -%}
    {%- endfor -%}
{%- endmacro %}


{% macro is_broken(rule) -%}
    {%- if rule.reference -%}
        {%- for column in rule.reference.columns -%}
            cleaned.{{ column }} is not null and {% endfor -%}
        {{ rule.reference.name }}._key_1 is null
    {%- else -%}
        coalesce({{ rule.broken }}, false)
    {%- endif -%}
{%- endmacro %}


{% macro join_reference(reference) -%}
    left join (
        select {{ "distinct" if not reference.is_key }}
            {%- for theirs in reference.columns.values() %}
            {{ theirs }} as _key_{{ loop.index }},
            {%- endfor %}
            cast(null as string) as _absent_by
        from {{ reference.relation }}
        {%- if reference.absent_keys %}
        union all
        select
            {%- for theirs in reference.columns.values() %}
            {{ theirs }},
            {%- endfor %}
            absent_by
        from {{ reference.absent_keys }}
        {%- endif %}
    ) as {{ reference.name }}
        on
            {%- for own in reference.columns %}
            {{ "and " if not loop.first -}}
            cleaned.{{ own }} = {{ reference.name }}._key_{{ loop.index }}
            {%- endfor %}
{%- endmacro %}


{% macro filter_name(plan) -%}
    coalesce(
            {%- if plan.filters %}
            case
                {%- for filter in plan.filters %}
                when {{ filter.where }} then {{ sql_literal(filter.name) }}
                {%- endfor %}
            end,
            {%- endif %}
            {%- for rule in plan.rules if rule.reference and rule.reference.absent_keys %}
            {{ rule.reference.name }}._absent_by,
            {%- endfor %}
            cast(null as string)
        )
{%- endmacro %}


{% macro inlined() -%}
    {{- return(adapter.dispatch("inlined")()) -}}
{%- endmacro %}


{% macro default__inlined() -%}
{%- endmacro %}


{% macro duckdb__inlined() -%}
    not materialized
{%- endmacro %}
