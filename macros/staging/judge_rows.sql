{#- chosen_sql: the model's SQL over some rows, where not all are to be judged; what is usual is told by all of them -#}
{% macro judge_rows(plan, model_sql, new_loads=none, chosen_sql=none) -%}
    {%- set everything = "everything" if chosen_sql else "cleaned" -%}
with

cleaned as {{ inlined() }} (

{{ chosen_sql or model_sql }}

),
{%- if chosen_sql %}

everything as {{ inlined() }} (

{{ model_sql }}

),
{%- endif %}

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
    {%- for rule in plan.rules %}
    {{- join_reference(rule.reference) if rule.reference }}
    {{- join_usual(rule.usual, everything) if rule.usual }}
    {{- join_newest(rule.newest, everything) if rule.newest }}
    {%- endfor %}
    {%- if new_loads %}
    where {{ new_loads }}
    {%- endif %}

)

select
    {%- for column in plan.clean_columns if column != "_load_id" %}
    {{ column }},
    {%- endfor %}
    {%- for column in plan.version_order %}
    {{ column }} as _order_{{ loop.index }},
    {%- endfor %}
    _load_id,
    {{ "_deleted" if not plan.events else no_deletion(plan) }},
    {%- if plan.history and plan.history.is_logged %}
    _committed_at,
    {%- endif %}
    _filter,
    case when not _deleted and ({{ any_broken(plan.rules) }}) then list_filter(
        [
            {%- for rule in plan.rules %}
            case when _broken_{{ loop.index }} then {{ loop.index }} end{{ "," if not loop.last }}
            {%- endfor %}
        ],
        lambda broken: broken is not null
    ) end as _broken,
    case when not _deleted and ({{ any_broken(plan.rules, "reject") }})
        then cast(to_json(_record) as string)
    end as _raw_record
from judged
{%- endmacro %}


{% macro any_broken(rules, severity=none) -%}
    {%- set names = [] -%}
    {%- for rule in rules if severity is none or rule.severity == severity -%}
        {%- do names.append("_broken_" ~ (rules.index(rule) + 1)) -%}
    {%- endfor -%}
    {{- names | join(" or ") -}}
{%- endmacro %}


{% macro is_broken(rule) -%}
    {%- if rule.reference -%}
        {%- for column in rule.reference.columns -%}
            cleaned.{{ column }} is not null and {% endfor -%}
        {{ rule.reference.name }}._key_1 is null
    {%- elif rule.usual -%}
        coalesce({{ rule.usual.name }}._is_split or {{ rule.usual.name }}._usual <> cleaned.{{ rule.column }}, false)
    {%- elif rule.newest -%}
        coalesce(cleaned.{{ rule.column }} < {{ rule.newest.name }}._newest, false)
    {%- else -%}
        coalesce({{ rule.broken }}, false)
    {%- endif -%}
{%- endmacro %}


{% macro join_reference(reference) %}
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


{% macro join_usual(usual, everything) %}
    left join (
        select
            {%- for own in usual.columns %}
            _key_{{ loop.index }},
            {%- endfor %}
            max_by(_value, _count) as _usual,
            count(*) filter (where _count = _most) > 1 as _is_split
        from (
            select
                {%- for own in usual.columns %}
                {{ own }} as _key_{{ loop.index }},
                {%- endfor %}
                {{ usual.column }} as _value,
                count(*) as _count,
                max(count(*)) over (partition by {{ usual.columns | join(", ") }}) as _most
            from {{ everything }}
            where not _deleted and {{ usual.column }} is not null
            group by {{ usual.columns | join(", ") }}, {{ usual.column }}
        ) as told
        group by
            {%- for own in usual.columns %}
            _key_{{ loop.index }}{{ "," if not loop.last }}
            {%- endfor %}
        having count(*) > 1
    ) as {{ usual.name }}
        on
            {%- for own in usual.columns %}
            {{ "and " if not loop.first -}}
            cleaned.{{ own }} = {{ usual.name }}._key_{{ loop.index }}
            {%- endfor %}
            and cleaned.{{ usual.column }} is not null
{%- endmacro %}


{% macro join_newest(newest, everything) %}
    left join (
        select
            _load_id as _load,
            max(max({{ newest.column }})) over (
                order by _load_id asc
                rows between unbounded preceding and 1 preceding
            ) as _newest
        from {{ everything }}
        group by _load_id
    ) as {{ newest.name }}
        on cleaned._load_id = {{ newest.name }}._load
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
