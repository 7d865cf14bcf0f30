{% macro select_findings(plan) -%}
with

rules as (

    {%- for rule in plan.rules %}
    select
        {{ loop.index }} as _rule,
        {{ sql_literal(rule.defect) }} as defect,
        {{ "cast(null as string)" if not rule.column else sql_literal(rule.column) }} as column_name,
        {{ sql_literal(rule.reason) }} as rule,
        {{ "true" if rule.severity == "reject" else "false" }} as _rejects
    {{ "union all" if not loop.last }}
    {%- endfor %}

),

broken as (

    select
        judged.rowid as _place,
        unnest(judged._broken) as _rule
    from {{ plan.judged }} as judged
    where judged._broken is not null

),

-- a row that refers to nothing is orphaned; one that refers to a rejected row is not to blame
told as (

    select
        broken._place,
        {{ found_defect(plan) }} as defect,
        rules.column_name,
        rules.rule
    from broken
    inner join rules
        on broken._rule = rules._rule
    inner join {{ plan.judged }} as judged
        on broken._place = judged.rowid

),

{{ select_repeats(plan) }}

found as (

    -- what is sent again is not late for that; what is late and overtaken is told once
    select told.*
    from told
    where not (
        told.defect = 'late'
        and told._place in (select _place from marked where _is_repeat)
    )
    union all
    select
        marked._place,
        marked.defect,
        marked.column_name,
        marked.rule
    from marked
    where
        marked._is_repeat
        or marked._place not in (select _place from told where defect = 'late')

)

select
    {{ sql_literal(plan.source) }} as source,
    {{ sql_literal(plan.table_name) }} as table_name,
    {{ sql_literal(plan.name) }} as model,
    {{ record_key(plan.key, "judged") }} as record_key,
    found.defect,
    found.column_name,
    found.rule,
    coalesce(set_aside._outcome, 'staged') as treatment,
    judged._file,
    judged._row,
    judged._load_id
from found
inner join {{ plan.judged }} as judged
    on found._place = judged.rowid
left join {{ plan.set_aside }} as set_aside
    on found._place = set_aside._place
{%- endmacro %}


{% macro select_repeats(plan) -%}
    {%- if plan.events -%}
-- what is delivered again has the key of an event that was read before
marked as (

    select
        _place,
        true as _is_repeat,
        case when _is_same then 'duplicated' else 'inconsistent' end as defect,
        cast(null as string) as column_name,
        case
            when _is_same then 'the same event was read before'
            else 'an event of this key was read before, with other content'
        end as rule
    from {{ plan.repeated }}
    where _is_repeat

),
    {%- else -%}
-- an older version in the file of its twin is a copy of it, whatever came between
marked as (

    select
        _place,
        _is_copy or _was_read_before as _is_repeat,
        case when _is_copy then 'duplicated' else 'outdated' end as defect,
        cast(null as string) as column_name,
        case
            when _is_copy then 'the same row stands in the file more than once'
            else 'a newer version was read before'
        end as rule
    from {{ plan.repeated }}
    where _is_overtaken or _is_copy

),
    {%- endif -%}
{%- endmacro %}


{% macro found_defect(plan) -%}
    {%- set blameless = [] -%}
    {%- for rule in plan.rules if rule.reference and rule.reference.quarantine -%}
        {%- set own_key = record_key(rule.reference.columns.keys() | list, "judged") -%}
        {%- do blameless.append({
            "number": plan.rules.index(rule) + 1, "rejected": rule.reference.quarantine, "own_key": own_key,
        }) -%}
    {%- endfor -%}
    {%- if not blameless -%}
        {{- return("rules.defect") -}}
    {%- endif -%}
    case
            {%- for found in blameless %}
            when broken._rule = {{ found.number }} and exists (
                select 1
                from {{ found.rejected }} as rejected
                where rejected.record_key = {{ found.own_key }}
            ) then 'unresolvable'
            {%- endfor %}
            else rules.defect
        end
{%- endmacro %}
