{#- only these need ranking: nearly all keys were read once, and nearly all contents of a key; texts are compared once a file -#}
{% macro select_repeated_rows(plan) -%}
    {%- if plan.events -%}
        {{- return(select_repeated_events(plan)) -}}
    {%- endif -%}
with

repeated_keys as (

    select
        {{ numbered_keys(plan) }}
    from {{ plan.judged }}
    group by {{ plan.key | join(", ") }}
    having count(*) > 1 or bool_or(_deleted)

),

repeated as (

    select
        judged.rowid as _place,
        {%- for column in plan.key %}
        _key_{{ loop.index }},
        {%- endfor %}
        {%- for column in plan.version_order %}
        _order_{{ loop.index }},
        {%- endfor %}
        _load_id,
        _file,
        _row,
        _deleted,
        _raw_record is not null as _is_rejected,
        hash({{ plan.content_columns | join(", ") }}, _deleted) as _content
    from {{ plan.judged }} as judged
    inner join repeated_keys
        on
            {%- for column in plan.key %}
            {{ "and " if not loop.first }}judged.{{ column }} = repeated_keys._key_{{ loop.index }}
            {%- endfor %}

),

-- files of one load whose names differ in their checksum arrive together
deliveries as (

    select
        _load_id,
        _file,
        row_number() over (order by _load_id asc, _file asc) as _delivery,
        dense_rank() over (order by _load_id asc, {{ file_order("_file") }} asc) as _arrival
    from (select distinct _load_id, _file from repeated) as files

),

arrived as (

    select
        repeated._place,
        {%- for column in plan.key %}
        repeated._key_{{ loop.index }},
        {%- endfor %}
        {%- for column in plan.version_order %}
        repeated._order_{{ loop.index }},
        {%- endfor %}
        repeated._row,
        repeated._deleted,
        repeated._is_rejected,
        repeated._content,
        deliveries._delivery,
        deliveries._arrival
    from repeated
    inner join deliveries
        on
            repeated._load_id is not distinct from deliveries._load_id
            and repeated._file is not distinct from deliveries._file

),

same_contents as (

    select
        {%- for column in plan.key %}
        _key_{{ loop.index }},
        {%- endfor %}
        _content
    from arrived
    where not _deleted
    group by all
    having count(*) > 1

),

told_again as (

    select
        arrived._place,
        row_number() over (
            partition by {{ key_places(plan, "arrived") }}, arrived._content, arrived._delivery
            order by arrived._row asc
        ) > 1 as _is_copy,
        row_number() over (
            partition by {{ key_places(plan, "arrived") }}, arrived._content
            order by arrived._arrival asc, arrived._row asc
        ) > 1 as _was_read_before
    from arrived
    semi join same_contents
        on
            {%- for column in plan.key %}
            arrived._key_{{ loop.index }} = same_contents._key_{{ loop.index }} and
            {%- endfor %}
            arrived._content = same_contents._content

),

ranked as (

    select
        _place,
        _deleted,
        _is_rejected,
        row_number() over newest_first as _version,
        first_value(_deleted) over newest_first as _is_gone,
        coalesce(_content = lag(_content) over newest_first, false) as _is_unchanged,
        coalesce(
            _content = lag(_content) over newest_first
            and _delivery = lag(_delivery) over newest_first,
            false
        ) as _is_duplicate,
        {%- if plan.version_order %}
        not _deleted and coalesce(_order_1 < max(_order_1) over as_read, false) as _is_overtaken
        {%- else %}
        false as _is_overtaken
        {%- endif %}
    from arrived
    window newest_first as (
        partition by {{ key_places(plan) }}, _is_rejected
        order by {{ newest_first(plan, ["_arrival", "_row"]) }}
    )
    {%- if plan.version_order %}, as_read as (
        partition by {{ key_places(plan) }}
        order by _arrival asc, _row asc
        rows between unbounded preceding and 1 preceding
    )
    {%- endif %}

)

select
    ranked._place,
    ranked._is_rejected,
    ranked._version,
    ranked._is_gone,
    ranked._is_unchanged,
    ranked._is_duplicate,
    ranked._is_overtaken,
    not ranked._deleted and coalesce(told_again._is_copy, false) as _is_copy,
    {%- if plan.version_order %}
    not ranked._deleted and coalesce(told_again._was_read_before, false) as _was_read_before
    {%- else %}
    false as _was_read_before
    {%- endif %}
from ranked
left join told_again
    on ranked._place = told_again._place
{%- endmacro %}


{% macro newest_first(plan, arrival=["_load_id", "_file_order", "_row"]) -%}
    {%- for column in plan.version_order -%}
        _order_{{ loop.index }} desc nulls last, {% endfor -%}
    {{ arrival | join(" desc, ") }} desc
{%- endmacro %}


{% macro file_order(column) -%}
    {#- the checksum that landing puts before a file's name says nothing of its place in time -#}
    regexp_replace({{ column }}, '/[0-9a-f]{16}-([^/]*)$', '/\1')
{%- endmacro %}


{% macro key_places(plan, relation=none) -%}
    {%- for column in plan.key -%}
        {{ relation ~ "." if relation }}_key_{{ loop.index }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{% macro numbered_keys(plan) -%}
    {%- for column in plan.key -%}
        {{ column }} as _key_{{ loop.index }}{{ "," if not loop.last }}
        {%- if not loop.last %}
        {% endif -%}
    {%- endfor -%}
{%- endmacro %}


{#- the rows that are not staged, by their place in the judged rows -#}
{% macro select_set_aside(plan) -%}
    {%- if plan.events -%}
        {{- return(select_events_set_aside(plan)) -}}
    {%- endif -%}
with

superseded as (

    select
        _place,
        'superseded' as _outcome,
        case
            when _is_gone then 'deleted'
            when _is_duplicate or _is_copy then 'duplicate'
            when _is_overtaken then 'outdated'
            when _is_unchanged then 'unchanged'
            else 'newer_version'
        end as _name,
        _is_gone and _version = 1 as _is_absent_key
    from {{ plan.repeated }}
    where
        not _is_rejected
        and (_version > 1 or _is_gone)

),

quarantined as (

    select
        rowid as _place,
        'quarantined' as _outcome,
        cast(null as string) as _name,
        false as _is_absent_key
    from {{ plan.judged }}
    where _raw_record is not null

),

filtered as (

    select
        judged.rowid as _place,
        'filtered' as _outcome,
        judged._filter as _name,
        true as _is_absent_key
    from {{ plan.judged }} as judged
    left join superseded
        on judged.rowid = superseded._place
    where
        judged._filter is not null
        and judged._raw_record is null
        and not judged._deleted
        and superseded._place is null

)

select * from superseded
union all
select * from quarantined
union all
select * from filtered
{%- endmacro %}


{% macro select_staged_rows(plan) -%}
select
    {%- for column in plan.clean_columns %}
    {{ column }}{{ "," if not loop.last }}
    {%- endfor %}
from {{ plan.judged }} as judged
where not exists (
    select 1
    from {{ plan.set_aside }} as set_aside
    where set_aside._place = judged.rowid
)
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
    list_aggregate(
        list_transform(
            list_filter(_broken, lambda broken: {{ severities(plan.rules) }}[broken]),
            lambda broken: {{ reasons(plan.rules) }}[broken]
        ),
        'string_agg', '; '
    ) as reasons,
    _raw_record as raw_record,
    _file,
    _row,
    _load_id
from {{ plan.judged }}
where _raw_record is not null
{%- endmacro %}


{% macro select_rejected_rows(plan) -%}
select
    {%- for column in plan.clean_columns %}
    {{ column }}{{ "," if not loop.last }}
    {%- endfor %}
from {{ plan.judged }}
where _raw_record is not null
{%- endmacro %}


{% macro reasons(rules) -%}
    [
    {%- for rule in rules -%}
        {{ sql_literal(rule.reason) }}{{ ", " if not loop.last }}
    {%- endfor -%}
    ]
{%- endmacro %}


{% macro severities(rules) -%}
    [
    {%- for rule in rules -%}
        {{ "true" if rule.severity == "reject" else "false" }}{{ ", " if not loop.last }}
    {%- endfor -%}
    ]
{%- endmacro %}


{% macro select_absent_keys(plan) -%}
select
    {%- for column in plan.key %}
    judged.{{ column }},
    {%- endfor %}
    {{ absent_by("set_aside") }} as absent_by
from {{ plan.set_aside }} as set_aside
inner join {{ plan.judged }} as judged
    on set_aside._place = judged.rowid
where set_aside._is_absent_key
{%- endmacro %}


{% macro absent_by(outcome) -%}
    case when {{ outcome }}._outcome = 'filtered' then {{ outcome }}._name else 'refers_to_deleted' end
{%- endmacro %}


{% macro count_outcomes(plan) -%}
select
    {{ sql_literal(plan.name) }} as model,
    {{ sql_literal(plan.source) }} as source,
    {{ sql_literal(plan.table_name) }} as table_name,
    judged._file,
    coalesce(set_aside._outcome, 'staged') as outcome,
    set_aside._name as name,
    count(*) as row_count,
    count(case when set_aside._is_absent_key then 1 end) as absent_key_count
from {{ plan.judged }} as judged
left join {{ plan.set_aside }} as set_aside
    on judged.rowid = set_aside._place
group by judged._file, outcome, name
{%- endmacro %}


{% macro record_key(columns, relation=none) -%}
    {%- set place = relation ~ "." if relation else "" -%}
    {%- if columns | length == 1 -%}
        cast({{ place ~ columns[0] }} as string)
    {%- else -%}
        concat_ws('|'
            {%- for column in columns -%}
                , coalesce(cast({{ place ~ column }} as string), '')
            {%- endfor -%}
        )
    {%- endif -%}
{%- endmacro %}


{% macro staged_and_rejected(model_name) -%}
    {#- every row that says something, sound or not; a key may have both a good and a bad version -#}
    {%- set staged = ref(model_name) -%}
    {%- set rejected = staged.incorporate(path={"schema": "rejected", "identifier": model_name}) -%}
    (
        select *, false as _is_rejected from {{ staged }}
        union all
        select *, true as _is_rejected from {{ rejected }}
    )
{%- endmacro %}
