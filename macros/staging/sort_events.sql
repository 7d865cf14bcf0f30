{#- the first version of a key holds, for ever: nothing that is staged is changed by a later load -#}
{% macro select_repeated_events(plan, staged=none) -%}
with

{% if staged -%}
{#- the place alone at first: what else a row holds is read where it is needed -#}
known_places as (

    select
        staged.rowid as _place,
        {%- for column in plan.key %}
        staged.{{ column }} as _key_{{ loop.index }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ staged }} as staged
    semi join {{ plan.judged }} as judged
        on {{ same_key(plan, "staged") }} and judged._raw_record is null
    {%- if plan.events.repeats_within %}
    where
        staged.{{ plan.events.event_time }}
        >= getvariable('{{ plan.name }}_oldest_event') - {{ span(plan.events.repeats_within) }}
    {%- endif %}

),

known as (

    select
        {%- for column in plan.key %}
        known_places._key_{{ loop.index }},
        {%- endfor %}
        hash({{ staged_content(plan) }}) as _content,
        true as _is_known
    from {{ staged }} as staged
    inner join known_places
        on staged.rowid = known_places._place
    union all
    select
        {%- for column in plan.key %}
        absent.{{ column }} as _key_{{ loop.index }},
        {%- endfor %}
        null as _content,
        true as _is_known
    from {{ plan.absent_keys }} as absent
    semi join {{ plan.judged }} as judged
        on {{ same_key(plan, "absent") }} and judged._raw_record is null

),

{% endif -%}
{#- only these need ranking: nearly all keys are new and were read once -#}
suspect_keys as (

    select
        {{ numbered_keys(plan) }}
    from {{ plan.judged }}
    where _raw_record is null
    group by {{ plan.key | join(", ") }}
    having count(*) > 1
    {%- if staged %}
    union
    select
        {{ key_places(plan) }}
    from known
    {%- endif %}

),

valid as (

    select
        judged.rowid as _place,
        {%- for column in plan.key %}
        judged.{{ column }} as _key_{{ loop.index }},
        {%- endfor %}
        judged._load_id,
        {{ file_order("judged._file") }} as _file_order,
        judged._row,
        {{ event_filter(plan) }} as _filter,
        hash({% for column in plan.content_columns %}judged.{{ column }}{{ ", " if not loop.last }}{% endfor %}) as _content
    from {{ plan.judged }} as judged
    left join suspect_keys
        on {{ same_key(plan, "judged", "suspect_keys") }}
    {{- join_watermark(plan, staged) }}
    where
        judged._raw_record is null
        and (suspect_keys._key_1 is not null or {{ event_filter(plan) }} is not null)

),

numbered as (

    select
        valid.*,
        {%- if staged %}
        known._is_known is not null as _is_known,
        known._content as _known_content,
        {%- else %}
        false as _is_known,
        null as _known_content,
        {%- endif %}
        row_number() over in_order as _version,
        first_value(valid._filter) over in_order as _first_filter,
        first_value(valid._content) over in_order as _first_content
    from valid
    {%- if staged %}
    left join known
        on
            {%- for column in plan.key %}
            {{ "and " if not loop.first }}valid._key_{{ loop.index }} = known._key_{{ loop.index }}
            {%- endfor %}
    {%- endif %}
    window in_order as (
        partition by
            {%- for column in plan.key %}
            valid._key_{{ loop.index }}{{ "," if not loop.last }}
            {%- endfor %}
        order by valid._load_id asc, valid._file_order asc, valid._row asc
    )

)

select
    _place,
    _filter,
    _is_known or _version > 1 as _is_repeat,
    {#- of an event that was filtered only the key is kept -#}
    coalesce(
        case
            when _is_known then _content = _known_content
            when _first_filter is null then _content = _first_content
        end,
        false
    ) as _is_same
from numbered
where _is_known or _version > 1 or _filter is not null
{%- endmacro %}


{% macro select_events_set_aside(plan) -%}
select
    _place,
    case when _is_repeat then 'superseded' else 'filtered' end as _outcome,
    case
        when not _is_repeat then _filter
        when _is_same then 'duplicate'
        else 'later_version'
    end as _name,
    not _is_repeat as _is_absent_key
from {{ plan.repeated }}
union all
select
    rowid as _place,
    'quarantined' as _outcome,
    cast(null as string) as _name,
    false as _is_absent_key
from {{ plan.judged }}
where _raw_record is not null
{%- endmacro %}


{#- a key that is not there was rejected before -#}
{% macro same_key(plan, relation, other="judged") -%}
    {%- for column in plan.key -%}
        {{ "and " if not loop.first }}{{ relation }}.{{ column }} =
        {{- " " ~ (other ~ "._key_" ~ loop.index if other != "judged" else "judged." ~ column) }}{{ " " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{% macro staged_content(plan) -%}
    {%- for column in plan.content_columns -%}
        staged.{{ column }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}


{#- the watermark of a load is made of the loads before it, whichever way the rows came -#}
{% macro join_watermark(plan, staged) -%}
    {%- if plan.events.drop_after %}
    left join (
        select
            _load_id as _load,
            greatest(
                {{ "(select newest_at from " ~ plan.marks ~ ")" if staged else "null" }},
                max(max(cast({{ plan.events.event_time }} as timestamp))) over (
                    order by _load_id asc
                    rows between unbounded preceding and 1 preceding
                )
            ) - {{ span(plan.events.drop_after) }} as _watermark
        from {{ plan.judged }}
        where _raw_record is null
        group by _load_id
    ) as watermarks
        on judged._load_id = watermarks._load
    {%- endif -%}
{%- endmacro %}


{% macro event_filter(plan) -%}
    {%- if not plan.events.drop_after -%}
        judged._filter
    {%- else -%}
        coalesce(judged._filter, case when {{ plan.events.event_time }} < watermarks._watermark then 'too_late' end)
    {%- endif -%}
{%- endmacro %}
